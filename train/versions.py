"""What a number was made with."""

from __future__ import annotations

import platform
from importlib.metadata import version

import jax

import asg_jax

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")


def versions() -> dict[str, str]:
    """Versions of the package, its libraries and Python, and the devices."""
    devices = jax.devices()
    return {
        "asg_jax": asg_jax.__version__,
        **{name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
    }
