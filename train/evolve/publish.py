"""What a run learned as a folder for others: weights or adapters, a model card, checksums."""

from __future__ import annotations

from dataclasses import replace
from hashlib import file_digest
from pathlib import Path

from asg_jax.adapters import merge
from asg_jax.errors import UserError
from asg_jax.models import peft
from asg_jax.models.places import new_folder, write_file
from asg_jax.models.registry import save_official
from asg_jax.train.evolve.card import card
from asg_jax.train.evolve.config import FILE
from asg_jax.train.evolve.files import Folder, fetched, read_json, write_json
from asg_jax.train.evolve.learned import ADAPTERS, open_roles
from asg_jax.train.evolve.run import SUMMARY

CARD, SUMS = "README.md", "SHA256SUMS"


def publish(run: Folder, out: Path, role: str | None = None) -> None:
    """Writes what a finished run learned.

    Args:
      run: its folder.
      out: a new folder, which appears when it is whole.
      role: whose update is merged into the weights, in the official layout; None writes the
        adapters of all roles as PEFT folders, with what `open_roles` needs to open them.

    Raises:
      UserError: the run is not finished, has no such role, or something is in the place.
    """
    if not (run / SUMMARY).exists():
        raise UserError(f"{run} holds no finished run: there is no {SUMMARY}; let it end first.")
    config = read_json(run / FILE, "name", "model", "method", "seed", "data")
    found = read_json(run / SUMMARY, "steps", "checks")
    with new_folder(out) as part:
        if role is None:
            _adapters(run, part)
            write_json(part / FILE, config)
        else:
            _merged(run, part, role)
        write_json(part / SUMMARY, found)
        write_file(part / CARD, card(config, found, role).encode())
        write_file(part / SUMS, checksums(part).encode())


def _adapters(run: Folder, part: Path) -> None:
    """All of them, read and written again, so that what is damaged is found here."""
    model, roles = open_roles(str(run))
    name = read_json(run / FILE)["model"]
    for role, params in roles.items():
        assert params.adapter is not None  # of a finished run
        peft.save(part / ADAPTERS / role, params.adapter, model.official_module, name)


def _merged(run: Folder, part: Path, role: str) -> None:
    with fetched(run / ADAPTERS) as place:
        known = sorted(path.name for path in place.iterdir())
    if role not in known:
        raise UserError(f"the run has no role '{role}'; its roles are {', '.join(known)}.")
    model, roles = open_roles(str(run))
    adapter = roles[role].adapter
    assert adapter is not None  # it is among the known
    save_official(part, replace(model, base=merge(model.base, adapter)))


def checksums(folder: Path) -> str:
    """A line for every file of a folder, as `sha256sum -c` reads them."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)
