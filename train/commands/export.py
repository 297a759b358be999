"""Write what a run learned as a folder for others: adapters or weights, model card, checksums."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags
from etils import epath

from asg_jax.models.places import check_new, check_writable, place
from asg_jax.train.evolve.publish import publish
from asg_jax.train.flags import parse

USAGE = "usage: asg-jax export RUN_FOLDER --out=FOLDER [--merge=ROLE]"


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("out", None, "Folder to write, a new one.", f, required=True)
    meaning = (
        "Role whose update is merged into the weights, which are written in the official layout; "
        "by default the adapters of all roles are written."
    )
    flags.DEFINE_string("merge", None, meaning, f)
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = define()
    words = parse(f, argv, USAGE, words=1)
    if words is None:
        return
    out = place(f.out)
    check_new(out)
    check_writable(out)
    publish(epath.Path(words[0]).expanduser(), out, f.merge)
    print(f"wrote {out}")
