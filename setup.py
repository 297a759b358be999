"""Maps the top-level folders models/, train/ and configs/ into the package asg_jax."""

from setuptools import find_packages, setup

FOLDERS = {
    "asg_jax": "asg_jax",
    "asg_jax.models": "models",
    "asg_jax.train": "train",
    "asg_jax.configs": "configs",
}
DATA = ["json", "safetensors", "txt", "gz", "html"]

setup(
    packages=[
        package
        for root, folder in FOLDERS.items()
        for package in (root, *(f"{root}.{name}" for name in find_packages(folder)))
    ],
    package_dir=FOLDERS,
    package_data={root: [f"**/*.{suffix}" for suffix in DATA] for root in FOLDERS},
)
