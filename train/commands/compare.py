"""Compare methods on one model under equal compute; the same command goes on later."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
from absl import flags

from asg_jax.errors import UserError
from asg_jax.train.evolve.ablations import share_judgement
from asg_jax.train.evolve.comparisons import chosen, compared, markdown, priced, within
from asg_jax.train.evolve.config import RunConfig, read
from asg_jax.train.evolve.files import write_bytes, write_json
from asg_jax.train.evolve.run import finish
from asg_jax.train.evolve.typed import changed
from asg_jax.train.flags import load_config, number, parse

USAGE = (
    "usage: asg-jax compare [--methods=A,B] [--budget=TOKENS] [--base=CONFIG] [--set=FIELD=VALUE]"
)


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("base", "bagel_tiny", "A file or config, which fits all methods.", f)
    flags.DEFINE_list("methods", [], "Which of them; all by default.", f)
    number(f, "budget", 1e9, "Token-forwards of each run.", float, above=0)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Of the runs, and of as many controls.", f)
    flags.DEFINE_multi_string("set", [], "FIELD=VALUE of the config of every run.", f)
    flags.DEFINE_string("workdir", "runs/methods", "Of the runs, one folder each.", f)
    flags.DEFINE_string("out", "docs/methods", "Files OUT.json and OUT.md with the gains.", f)
    return f


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit status says whether it was stopped."""
    f = define()
    if parse(f, argv, USAGE) is None:
        return 0
    names, place = chosen(f.methods), Path(f.workdir).expanduser()
    configs = {name: _config(f.base, name, f.set) for name in names}
    prices = {name: priced(config, place) for name, config in configs.items()}
    done: dict[bool, dict[str, list[Path]]] = {
        control: {name: [] for name in names} for control in (False, True)
    }
    for seed in f.seeds:
        for name, config in configs.items():
            for control in (False, True):
                seeded = replace(config, seed=int(seed))
                run = within(seeded, f.budget, prices[name], control)
                folder = place / run.name
                print(f"{run.name}: {run.steps} steps in {folder}", flush=True)
                status = finish(run, folder, partial(share_judgement, folder, place))
                if status:
                    return status
                jax.clear_caches()  # the next run's programs are others
                done[control][name].append(folder)
            _write(Path(f.out).expanduser(), compared(done[False], done[True], prices))
    return 0


def _config(name: str, method: str, settings: Sequence[str]) -> RunConfig:
    """The config of a method's run.

    Raises:
      UserError: a setting is not FIELD=VALUE.
    """
    config = read(load_config(f"{name}:{method}").to_dict())
    for setting in settings:
        field, equals, value = setting.partition("=")
        try:
            config = changed(config, {field: _value(value)} if equals else {"": None})
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"--set={setting} names no setting of {method}; write FIELD=VALUE, such as"
                " eval.questions=400."
            ) from error
    return config


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _write(out: Path, found: dict[str, Any]) -> None:
    """Both files, anew after every method."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out.with_suffix(".json"), found)
    write_bytes(out.with_suffix(".md"), ("\n".join(markdown(found)) + "\n").encode())
