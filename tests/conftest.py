"""Test set-up: the devices JAX sees, the compilation cache, runtime shape checks, golden data."""

import importlib.util
import math
import os
from importlib.metadata import version
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
DEVICES = "--xla_force_host_platform_device_count"
# JAX 0.10 still has the older generator of CPU code, which compiles in two thirds of the time.
QUICK = "--xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""

# Packages whose jaxtyping annotations are checked at every call. asg_jax.backbone stays out:
# its pytree dataclasses are also built with leaves that are no arrays.
CHECKED_PACKAGES = [
    "asg_jax.models",
    "asg_jax.objectives",
    "asg_jax.ops",
    "asg_jax.signals",
]


def golden_folder() -> Path:
    """Returns the folder of golden data: ASG_GOLDEN_DIR, or tests/golden."""
    return Path(os.environ.get("ASG_GOLDEN_DIR") or ROOT / "tests" / "golden").resolve()


def set_environment() -> None:
    """Chooses eight CPU devices and the compilation cache, where the caller chose nothing.

    Most of the time of the tests is compilation, and most of that is LLVM's optimisation: off.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    wanted = (f"{DEVICES}=8", QUICK)
    missing = [flag for flag in wanted if flag.split("=")[0] not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *missing]).strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # Else as many threads as devices: too few where each device waits in two collectives at once.
    os.environ.setdefault("NPROC", "64")
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


set_environment()  # JAX reads these variables once, at its first import

from jaxtyping import install_import_hook  # noqa: E402  (may import jax, so it comes after)

install_import_hook(CHECKED_PACKAGES, "beartype.beartype")

# A first example compiles, and a busy machine is slow at any.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def is_installed() -> bool:
    """Tells whether asg_jax.models can be imported; a bare checkout has only asg_jax, if that."""
    try:
        return importlib.util.find_spec("asg_jax.models") is not None
    except ModuleNotFoundError:  # not even asg_jax
        return False


def pytest_configure() -> None:
    """Ends the run with one line where the package is not installed."""
    if not is_installed():
        raise pytest.UsageError(
            'asg_jax.models is not importable: run `pip install -e ".[test]"` in the checkout.'
        )


@pytest.fixture(scope="module")
def tpu_compiler():
    """Makes `jax.experimental.topologies` compile for TPUs that are not there.

    The settings keep libtpu from asking a cloud machine what it is, and from locking out other
    processes.
    """
    import jax

    pytest.importorskip("libtpu", reason="the TPU compiler comes with `pip install libtpu`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TPU_SKIP_MDS_QUERY", "1")
        patch.setenv("TPU_ACCELERATOR_TYPE", "v5litepod-4")
        patch.setenv("TPU_WORKER_HOSTNAMES", "localhost")
        patch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        # A program for absent devices can be put into the compilation cache but not read from it.
        changes = {
            "jax_persistent_cache_min_compile_time_secs": math.inf,
            "jax_disable_most_optimizations": False,
        }
        before = {name: jax.config.values[name] for name in changes}
        for name, value in changes.items():
            jax.config.update(name, value)
        yield
        for name, value in before.items():
            jax.config.update(name, value)
