"""Pool the gains of several runs, and compare them with those of control runs."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from asg_jax.errors import UserError
from asg_jax.models.places import new_file, place
from asg_jax.train.evolve.files import write_json
from asg_jax.train.evolve.pool import lines, pool, read_runs
from asg_jax.train.flags import parse

USAGE = "usage: asg-jax report [--out=FILE.json] RUN_FOLDER... [--control RUN_FOLDER...]"


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = flags.FlagValues()
    flags.DEFINE_string("out", "report.json", "JSON file for all numbers, a new one.", f)
    split = argv.index("--control") if "--control" in argv else len(argv)
    words = parse(f, argv[:split], USAGE, words=None)
    if words is None:
        return
    folders = lambda names: [place(name) for name in names]
    runs, controls = folders(words), folders(argv[split + 1 :])
    if not runs:
        raise UserError(f"no run folder is named; {USAGE}")
    out = new_file(f.out)
    found = pool(read_runs(runs), read_runs(controls))
    write_json(out, found)
    print("\n".join(lines(found)))
    print(f"wrote {out}")
