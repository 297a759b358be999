"""Measure how well a model answers and draws: by an exact judge, or on tasks of lmms-eval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from time import perf_counter

from absl import flags

from asg_jax.errors import UserError
from asg_jax.models.places import check_new, check_writable, place, write_file
from asg_jax.train.evaluate.figure import figure, sheet
from asg_jax.train.evaluate.judges import evaluate
from asg_jax.train.evaluate.lmms import find_tasks, run_tasks
from asg_jax.train.evaluate.report import document, lines, tables
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evolve.config import read
from asg_jax.train.evolve.learned import open_roles
from asg_jax.train.evolve.typed import build
from asg_jax.train.flags import define_config, number, parse
from asg_jax.train.opened import open_model

FILES = ("scores.json", "scores.png")
TASKS = "tasks.json"
USAGE = (
    "usage: asg-jax evaluate --model=MODEL [--against=MODEL] [--out=FOLDER] [--noheadroom]"
    " | asg-jax evaluate --model=MODEL --tasks=A,B [--limit=N] [--out=FOLDER]"
)


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("model", None, "Checkpoint, shipped model or run.", f, required=True)
    flags.DEFINE_string("against", None, "Another, whose scores are subtracted.", f)
    flags.DEFINE_string("out", None, "Folder for scores.json and scores.png.", f)
    flags.DEFINE_boolean("headroom", True, "Measure votes and the best of several pictures.", f)
    flags.DEFINE_list("tasks", [], "Tasks of lmms-eval, instead of rendered scenes.", f)
    flags.DEFINE_string("task_folder", None, "Of tasks of your own, in lmms-eval's format.", f)
    number(f, "limit", None, "Questions of each task; all by default.", least=1)
    define_config(f, "bagel_tiny")
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = define()
    if parse(f, argv, USAGE, settings=read) is None:
        return
    out = place(f.out) if f.out else None
    if f.tasks:
        _run_tasks(f, out)
        return
    if "eval" not in f.config:
        raise UserError("the config has no section 'eval'; take one that has, as bagel_tiny.")
    settings = build(EvalSettings, f.config.eval.to_dict(), "config.eval")
    names = [f.model, f.against] if f.against else [f.model]
    if f.against == f.model:
        raise UserError("--model and --against name the same model; name two.")
    _check(out, FILES)
    models = {name: open_roles(name) for name in names}
    scores, sheets = {}, {}
    for name, (model, roles) in models.items():
        start = perf_counter()
        scores[name] = evaluate(model, roles, settings, f.headroom)
        print(f"judged {name} in {perf_counter() - start:.0f} s", flush=True)
        if out is not None:
            sheets[name] = sheet(model, roles["generator"], settings)
    columns = tables(scores)
    print("\n".join(lines(scores, columns)))
    if out is not None:
        report = document(asdict(settings), scores, columns)
        out.mkdir(parents=True, exist_ok=True)
        picture = BytesIO()
        figure({name: columns[name] for name in scores}, sheets).savefig(picture, format="png")
        contents = (json.dumps(report) + "\n").encode(), picture.getvalue()
        for name, data in zip(FILES, contents, strict=True):
            write_file(out / name, data)
        print(f"wrote {' and '.join(str(out / name) for name in FILES)}")


def _run_tasks(f: flags.FlagValues, out: Path | None) -> None:
    """Prints the table of lmms-eval, and writes what it is made of."""
    if f.against:
        raise UserError("--tasks scores one model; leave out --against.")
    _check(out, [TASKS])
    tasks = find_tasks(f.tasks, f.task_folder)
    table, answered = run_tasks(open_model(f.model), tasks, f.limit)
    print(table)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_file(out / TASKS, (json.dumps(answered, default=str) + "\n").encode())
        print(f"wrote {out / TASKS}")


def _check(out: Path | None, names: Sequence[str]) -> None:
    """Makes sure that these files can be written, and are new."""
    if out is not None:
        check_writable(out)
        for name in names:
            check_new(out / name)
