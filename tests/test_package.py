"""What an installation holds, what importing it does, and what the test set-up promises."""

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import asg_jax.models
from tests.conftest import ROOT, golden_folder

FOLDERS = {
    "asg_jax": "asg_jax",
    "models": "asg_jax/models",
    "train": "asg_jax/train",
    "configs": "asg_jax/configs",
}

IMPORT_EVERYTHING = """
import importlib, pkgutil
import asg_jax.configs, asg_jax.models, asg_jax.train

def fail(name):
    raise

for package in (asg_jax, asg_jax.configs, asg_jax.models, asg_jax.train):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=fail):
        importlib.import_module(module.name)

from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "an import initialised a JAX backend"
"""

CHECKED_MODULE = """
from jaxtyping import Array, Float

def double(x: Float[Array, "n 2"]) -> Float[Array, "n 2"]:
    return 2 * x
"""


def walk_files() -> list[str]:
    """Returns the files of the checkout outside hidden and generated folders."""
    generated = {"build", "dist", "__pycache__"}
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [
        path.as_posix()
        for path in paths
        if not any(part in generated or part.startswith(".") for part in path.parts)
    ]


def source_files() -> list[str]:
    """Returns the files that git tracks or would track; without git, those that lie there."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return walk_files()
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def copy_sources(names: list[str], folder: Path) -> None:
    """Copies the named files of the checkout; golden data are large and no part of a build."""
    for name in names:
        if not name.startswith("tests/golden/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def build_wheel(source: Path, out: Path) -> Path:
    """Builds the wheel with the installed setuptools, without the network."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    done = subprocess.run(
        [*command, "--outdir", str(out), str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


def installed_name(name: str) -> str | None:
    """Returns where a source file belongs in the wheel, or None if it is no package file."""
    folder, _, rest = name.partition("/")
    return f"{FOLDERS[folder]}/{rest}" if folder in FOLDERS and rest else None


def test_wheel_holds_every_package_file_and_nothing_else(tmp_path: Path) -> None:
    names = source_files()
    copy_sources(names, tmp_path / "source")
    wheel = build_wheel(tmp_path / "source", tmp_path / "wheel")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {installed for name in names if (installed := installed_name(name))}
    missing = sorted(expected - packed)
    assert not missing, f"no __init__.py beside them, or a suffix unknown to setup.py: {missing}"
    assert packed == expected


def test_importing_everything_initialises_no_backend(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_jax_sees_the_chosen_devices() -> None:
    if "xla_force_host_platform_device_count=8" in os.environ["XLA_FLAGS"]:
        assert len(jax.devices("cpu")) == 8
    assert jax.config.values["jax_compilation_cache_dir"] == os.environ["JAX_COMPILATION_CACHE_DIR"]


def test_shapes_are_checked_at_run_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checked_example.py").write_text(CHECKED_MODULE)
    monkeypatch.setattr(asg_jax.models, "__path__", [str(tmp_path)])
    module = importlib.import_module("asg_jax.models.checked_example")
    monkeypatch.delitem(sys.modules, module.__name__)
    assert module.double(jnp.ones((3, 2))).shape == (3, 2)
    with pytest.raises(Exception, match="double"):
        module.double(jnp.ones((3, 4)))


def test_golden_folder_is_chosen_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASG_GOLDEN_DIR", str(tmp_path))
    assert golden_folder() == tmp_path.resolve()
    monkeypatch.delenv("ASG_GOLDEN_DIR")
    assert golden_folder() == ROOT / "tests" / "golden"
