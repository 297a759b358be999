"""Links the package's folders under build/typing as they are installed, for type checkers.

A type checker reads folders and knows nothing of the map in setup.py: it would not find
asg_jax.models, which lies in models/. `[tool.pyright]` names build/typing as a search path.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAPPED = ("models", "train", "configs")


def make_links(root: Path) -> None:
    """Builds build/typing/asg_jax with a link per entry of asg_jax/ and per mapped folder."""
    package = root / "build" / "typing" / "asg_jax"
    package.mkdir(parents=True, exist_ok=True)
    for link in package.iterdir():
        link.unlink()  # an entry may have been renamed since
    entries = [entry for entry in (root / "asg_jax").iterdir() if entry.name != "__pycache__"]
    for target in [*entries, *(root / name for name in MAPPED)]:
        link = package / target.name
        link.symlink_to(os.path.relpath(target, package), target_is_directory=target.is_dir())


if __name__ == "__main__":
    make_links(ROOT)
