"""Pool the gains of several runs and compare them with control runs, or show one as a page."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags
from etils import epath

from asg_jax.errors import UserError
from asg_jax.models.places import new_file, place, write_file
from asg_jax.train.evolve.files import Folder, write_json
from asg_jax.train.evolve.page import render
from asg_jax.train.evolve.pool import lines, pool, read_runs
from asg_jax.train.flags import parse

USAGE = (
    "usage: asg-jax report [--out=FILE.json] RUN_FOLDER... [--control RUN_FOLDER...]"
    " | asg-jax report RUN_FOLDER --html=FILE.html"
)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = flags.FlagValues()
    flags.DEFINE_string("out", "report.json", "JSON file for all numbers, a new one.", f)
    flags.DEFINE_string("html", None, "Page about one run, a new file, instead of the JSON.", f)
    split = argv.index("--control") if "--control" in argv else len(argv)
    words = parse(f, argv[:split], USAGE, words=None)
    if words is None:
        return
    folders = lambda names: [place(name) for name in names]
    runs, controls = folders(words), folders(argv[split + 1 :])
    if not runs:
        raise UserError(f"no run folder is named; {USAGE}")
    if f.html:
        _page(f.html, words, controls)
        return
    out = new_file(f.out)
    found = pool(read_runs(runs), read_runs(controls))
    write_json(out, found)
    print("\n".join(lines(found)))
    print(f"wrote {out}")


def _page(name: str, words: Sequence[str], controls: Sequence[Folder]) -> None:
    """Writes the page of one run, whose folder may be in a bucket."""
    if len(words) != 1 or controls:
        raise UserError("a page shows one run; name one folder with --html, and no --control.")
    out = new_file(name)
    write_file(out, render(epath.Path(words[0]).expanduser()).encode())
    print(f"wrote {out}")
