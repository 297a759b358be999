"""Everything that a finished run consists of, but times, as hashes: to be compared with another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from asg_jax.train.evolve.checkpoints import FOLDER as CHECKPOINTS
from asg_jax.train.evolve.files import read_json
from asg_jax.train.evolve.learned import ADAPTERS
from asg_jax.train.evolve.logs import read_metrics
from asg_jax.train.evolve.replay import FOLDER as REPLAY
from asg_jax.train.evolve.run import PICTURE, SUMMARY

TIMES = ("seconds", "seconds_per_phase", "seconds_of_all")  # of a summary


def facts(folder: Path) -> Iterator[tuple[str, str]]:
    """Everything in the folder of a finished run but times, hashed, with its name."""
    yield "metrics", digest([without(line, "seconds") for line in read_metrics(folder)])
    yield "summary", digest(without(read_json(folder / SUMMARY), *TIMES))
    for path in [folder / "config.json", folder / PICTURE, *folder.glob(f"{ADAPTERS}/**/*.*")]:
        yield str(path.relative_to(folder)), digest(path.read_bytes())
    for name in ("before", "after"):
        yield f"{name}.json", digest((folder / f"{name}.json").read_bytes())
        with np.load(folder / f"{name}.npz") as arrays:
            yield f"{name}.npz", digest(arrays["pictures"].tobytes())
    steps = sorted(int(path.name) for path in (folder / CHECKPOINTS).iterdir())
    yield "last step", digest(steps[-1])
    for step in steps:
        yield from of_checkpoint(folder, step)
    yield "left behind", digest([str(path) for path in folder.rglob("*tmp*")])


def of_checkpoint(folder: Path, step: int) -> Iterator[tuple[str, str]]:
    """The same of a saved step, and of the pictures for replay that it names."""
    path = folder / CHECKPOINTS / str(step)
    host = json.loads((path / "host" / "metadata").read_text())
    history = without(host.pop("history"), "seconds", "times")
    yield f"{step}: history", digest([history, host])
    replay = host["replay"]
    for n in range(replay["first"], replay["first"] + len(replay["steps"])):
        yield f"replay {n}", digest((folder / REPLAY / f"{n:08d}.png").read_bytes())
    with ocp.PyTreeCheckpointer() as reader:
        tree = reader.metadata(path / "state").item_metadata.tree
        plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = reader.restore(path / "state", restore_args=plain)
    for name, leaf in jax.tree.leaves_with_path(state):
        array = np.asarray(leaf)
        yield f"{step}: {jax.tree_util.keystr(name)}", digest([str(array.dtype), array.tobytes()])


def without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The values but these."""
    return {name: value for name, value in values.items() if name not in names}


def digest(value: Any) -> str:
    """A hash of bytes, or of what JSON can hold."""
    data = value if isinstance(value, bytes) else json.dumps(value, default=bytes.hex).encode()
    return hashlib.sha256(data).hexdigest()[:16]
