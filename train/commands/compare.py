"""Compare methods on one model under equal compute; the same command goes on later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
from absl import flags

from asg_jax.models.places import place
from asg_jax.train.evolve.ablations import share_judgement
from asg_jax.train.evolve.comparisons import chosen, compared, markdown, priced, within
from asg_jax.train.evolve.config import RunConfig, read
from asg_jax.train.evolve.files import write_tables
from asg_jax.train.evolve.run import finish
from asg_jax.train.flags import define_config, number, parse, seeds

USAGE = (
    "usage: asg-jax compare [--methods=A,B] [--budget=TOKENS] [--base=CONFIG] [--set=FIELD=VALUE]"
)


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("base", "bagel_tiny", "A file or config, which fits all methods.", f)
    flags.DEFINE_list("methods", [], "Which of them; all by default.", f)
    number(f, "budget", 8e6, "Token-forwards of each run.", float, above=0)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Of the runs, and of as many controls.", f)
    flags.DEFINE_multi_string(
        "set", [], "FIELD=VALUE, as after --config. in evolve, for every run.", f
    )
    flags.DEFINE_string("workdir", "runs/methods", "Of the runs, one folder each.", f)
    flags.DEFINE_string("out", "docs/methods", "Files OUT.json and OUT.md with the gains.", f)
    return f


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit status says whether it was stopped."""
    f = define()
    if parse(f, argv, USAGE) is None:
        return 0
    names, folder_of_runs, out = chosen(f.methods), place(f.workdir), place(f.out)
    numbers = seeds(f.seeds)
    configs = {name: _config(f.base, name, f.set) for name in names}
    prices = {name: priced(config, folder_of_runs) for name, config in configs.items()}
    done: dict[bool, dict[str, list[Path]]] = {
        control: {name: [] for name in names} for control in (False, True)
    }
    for seed in numbers:
        for name, config in configs.items():
            for control in (False, True):
                seeded = replace(config, seed=seed)
                run = within(seeded, f.budget, prices[name], control)
                folder = folder_of_runs / run.name
                print(f"{run.name}: {run.steps} steps in {folder}", flush=True)
                status = finish(run, folder, partial(share_judgement, folder, folder_of_runs))
                if status:
                    return status
                jax.clear_caches()  # the next run's programs are others
                done[control][name].append(folder)
            found = compared(done[False], done[True], prices)
            write_tables(out, found, markdown(found))
    return 0


def _config(name: str, method: str, settings: Sequence[str]) -> RunConfig:
    """The config of a method's run."""
    f = flags.FlagValues()
    define_config(f, f"{name}:{method}")
    parse(f, [f"--config.{setting}" for setting in settings], USAGE)
    return read(f.config.to_dict())
