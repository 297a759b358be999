"""Tell whether a run fits accelerators that are not there, and what it takes on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from asg_jax.errors import UserError
from asg_jax.models.places import place, write_file
from asg_jax.train.ahead.account import lines
from asg_jax.train.ahead.fit import fit, plain
from asg_jax.train.evolve.config import read
from asg_jax.train.evolve.logs import say
from asg_jax.train.flags import define_config, number, parse

USAGE = "usage: asg-jax fit [--config=NAME] [--topology=v5e:4x4] [--config.FIELD=VALUE ...]"


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    define_config(f, "bagel_7b")
    meaning = "Chip (v4, v5e, v5p, v6e, h100, h200) and shape or number: v5e:4x4, h200:8."
    flags.DEFINE_string("topology", "v5e:4x4", meaning, f)
    number(f, "utilisation", 0.3, "Share of the peak that is reached.", float, above=0, most=1)
    number(f, "price", None, "US dollars for an hour of a device: prints the cost.", float, least=0)
    flags.DEFINE_string("out", None, "JSON file of all numbers; results of others stay in it.", f)
    return f


def main(argv: Sequence[str]) -> int:
    """Runs the command; the status is 1 where the run does not fit."""
    f = define()
    if parse(f, argv, USAGE) is None:
        return 0
    jax.config.update("jax_platforms", "cpu")  # nothing runs, so no accelerator is looked for
    config, out = read(f.config.to_dict()), place(f.out) if f.out else None
    before = _read(out) if out else []
    found = fit(config, f.topology, say)
    told = plain(found, f.utilisation, f.price)
    say(*lines(found, told))
    if out is not None:
        names = ("config", "method", "topology", "mesh")
        others = [old for old in before if any(old[n] != told[n] for n in names)]
        write_file(out, (json.dumps([*others, told], indent=1) + "\n").encode())
    return 0 if found.fits else 1


def _read(path: Path) -> list[dict[str, Any]]:
    """The results that a file holds already."""
    if not path.exists():
        return []
    try:
        return [dict(old) for old in json.loads(path.read_text())]
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} does not hold results of asg-jax fit; name another file."
        ) from error
