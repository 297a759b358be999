"""Reward signals: what each costs, what it sees, and what fools it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from absl import flags
from jaxtyping import Float

import asg_jax
from asg_jax.backbone import Params
from asg_jax.engine import scoring
from asg_jax.engine.programs import Lengths
from asg_jax.engine.scoring import Telling
from asg_jax.engine.texts import Scribe
from asg_jax.errors import UserError
from asg_jax.methods import preset
from asg_jax.models.pictures import to_picture
from asg_jax.models.places import new_file, write_file
from asg_jax.models.registry import Model
from asg_jax.prompts import LANGUAGES
from asg_jax.rollout.text import Texts
from asg_jax.signals.table import Signal
from asg_jax.train.benchmarks import against, pairs, plain
from asg_jax.train.benchmarks.forms import medians
from asg_jax.train.benchmarks.hacks import asks, hacks
from asg_jax.train.benchmarks.metering import Metered, Replaced
from asg_jax.train.benchmarks.page import page
from asg_jax.train.benchmarks.power import decided, power
from asg_jax.train.benchmarks.rewards_report import lines
from asg_jax.train.benchmarks.scoring import (
    GROUPS,
    Own,
    PictureScorer,
    Subject,
    Table,
    chosen,
    readable,
)
from asg_jax.train.benchmarks.trials import VERSION, Trial, drawings, renders
from asg_jax.train.data.scenes import CANVAS
from asg_jax.train.evaluate.prompts import prompt_set
from asg_jax.train.evolve.config import RunConfig, read
from asg_jax.train.evolve.learned import open_roles
from asg_jax.train.evolve.parts import language_of
from asg_jax.train.flags import define_config, number, parse

USAGE = "usage: asg-jax bench rewards [--config=CONFIG] [--model=MODEL] [--out=FILE.json]"
SCENES = "scenes"  # the language of the pictures whose truth is known
KNOWN = ("renders", "drawings")  # sets of known truth
TIMED = 2  # groups that the plain form is timed on
TOLERANCE = 1e-5  # between the scores of both forms in float32


def define() -> flags.FlagValues:
    """The benchmark's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("model", None, "Checkpoint, shipped model or run; config.model if not.", f)
    flags.DEFINE_list("signals", [], "Which; all by default. MODULE:NAME is one of your own.", f)
    flags.DEFINE_string("pairs", None, "JSONL of picture, text, and label or rank.", f)
    number(f, "prompts", 96, "Texts of each set of known truth.", least=2, most=100_000)
    number(f, "images", 8, "Drawings of each text.", least=2, most=1000)
    number(f, "repeat", 3, "Timings of every signal; medians are printed.", least=1, most=1000)
    number(f, "pictures", 16, "Pictures that are scored under many texts.", least=1, most=100_000)
    number(f, "texts", 8, "Texts that each of them is scored under.", least=1, most=1000)
    flags.DEFINE_boolean("plain", True, "Time the plain form as well.", f)
    number(f, "bandwidth", None, "Of the device, in GB/s: prints the used share.", float, above=0)
    number(f, "peak", None, "Of the device, in TFLOP/s: prints the used share.", float, above=0)
    flags.DEFINE_string("against", None, "JSON of another run, which is subtracted.", f)
    flags.DEFINE_string("out", None, "JSON file for all numbers.", f)
    flags.DEFINE_string("html", None, "HTML page of tables and plots.", f)
    define_config(f, "bagel_tiny")
    return f


def main(argv: Sequence[str]) -> int | None:
    """Runs the benchmark; the status is 1 if the plain form's scores differ."""
    f = define()
    if parse(f, argv, USAGE) is None:
        return None
    out, html = (new_file(name) if name else None for name in (f.out, f.html))
    table = chosen(f.signals)
    before = against.load(f.against) if f.against else None
    report = run(f, table, before)
    if before is not None:
        report["changes"] = against.changes(report, before)
    print("\n".join(lines(report)))
    if out is not None:
        write_file(out, (json.dumps(report) + "\n").encode())
    if html is not None:
        write_file(html, page(report).encode())
    return 0 if report["passed"] else 1


def run(f: flags.FlagValues, table: Table, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Everything that was measured, and how.

    Args:
      f: the benchmark's flags.
      table: the signals.
      before: the report of another run that this one is to be compared with, if any.

    Raises:
      UserError: something that was named does not fit the rest; before anything is opened.
    """
    config = read(f.config.to_dict())
    name = f.model or config.model
    language_of(config)
    if not hasattr(preset(config.method.name).make, "score"):
        raise UserError(f"the method '{config.method.name}' has no signals of given pictures.")
    groups, texts = _named(f, config)
    table = table if groups is None else _possible(table, groups)
    if before is not None:
        against.common(table, texts, before)
    model, roles = open_roles(name)
    trials = _trials(f, config, model, groups)
    words = max(len(model.processor.ids(text)) for trial in trials for text in trial.texts)
    subject = Subject(model, roles, config, trials[0].pictures.shape[2], words)
    metered, seed, first = Metered(), config.eval.seed, trials[0]
    judge, simple = subject.scorer(metered), subject.scorer(Replaced(functions=plain.PLAIN))
    scores = {trial.name: judge.scores(trial, table) for trial in trials}
    exact = model.backbone.unembedding(Params(model.base)).dtype == np.float32
    bench = Bench(f, first, metered, judge, simple, exact)
    speeds = {n: bench.speed(n, one, scores[first.name][n]) for n, one in table.items()}
    fooled = hacks(subject, judge, table, first, scores[first.name], seed)
    report = _head(f, name, seed) | {
        "many": many(f, model, trials[0], config.language),
        "sets": {trial.name: _described(trial) for trial in trials},
        "signals": {
            name: {
                "speed": speeds[name],
                "power": {t.name: power(scores[t.name][name], t.truth, seed) for t in trials},
                "hacks": fooled[name],
                "scores": {t.name: scores[t.name][name].tolist() for t in trials},
            }
            for name in table
        },
    }
    agree = [one.get("agrees", True) for one in (report["many"], *speeds.values())]
    return report | {"passed": all(agree)}


def _head(f: flags.FlagValues, name: str, seed: int) -> dict[str, Any]:
    """What was measured, where, and with which settings."""
    device = jax.devices()[0]
    return {
        "benchmark": "rewards",
        "version": VERSION,
        "model": name,
        "settings": {flag: f[flag].value for flag in f if flag != "config"},
        "seed": seed,
        "device": {"platform": device.platform, "kind": device.device_kind},
        "versions": {"jax": jax.__version__, "asg_jax": asg_jax.__version__},
    }


def _named(f: flags.FlagValues, config: RunConfig) -> tuple[pairs.Groups | None, against.Texts]:
    """A user's pairs, if any, and the texts of all sets.

    Raises:
      UserError: the pairs cannot be read, or there are none and the language has no other set.
    """
    if f.pairs:
        groups = pairs.read(f.pairs)
        return groups, {pairs.NAME: [group[0].text for group in groups]}
    if config.language != SCENES:
        raise UserError("the sets of known truth are rendered scenes; give --pairs=FILE.jsonl.")
    texts = list(map(str, prompt_set(config.eval.seed, f.prompts)))
    return None, dict.fromkeys(KNOWN, texts)


def _trials(
    f: flags.FlagValues, config: RunConfig, model: Model, groups: pairs.Groups | None
) -> list[Trial]:
    """A user's pairs, or the sets of known truth."""
    if groups is not None:
        side = config.method.sampler.grid[0] * model.backbone.spec.token_pixels
        return [pairs.trial(groups, side)]
    side = readable(model, config.language, CANVAS)
    own = drawings(model, config.eval, f.prompts, f.images)
    return [trial.enlarged(side) for trial in (renders(config.eval.seed, f.prompts), own)]


def _possible(table: Table, groups: pairs.Groups) -> Table:
    """Signals that can be read: some ask the same of another picture that shows the text.

    Raises:
      UserError: none can.
    """
    if pairs.references(groups) is not None:
        return table
    left = {name: one for name, one in table.items() if not asks(one)}
    if not left:
        raise UserError(
            "these signals compare answers about two pictures; give every text of --pairs a"
            " 'reference', another picture that shows it."
        )
    return left


def _described(trial: Trial) -> dict[str, Any]:
    truth = trial.truth
    return {
        "texts": list(trial.texts),
        "rank": truth.rank.tolist(),
        "exists": truth.exists.tolist(),
        "kinds": [list(row) for row in truth.kinds],
    }


@dataclass(frozen=True, eq=False)
class Bench:
    """A subject with its programs in several forms, each compiled once for all signals.

    Attributes:
      flags: the benchmark's, as they were typed.
      trial: pictures that are timed.
      metered: the runs of the engine's programs.
      engine: scores with these.
      plain: scores with their plain forms.
      exact: the model computes in float32, so that both must agree.
    """

    flags: flags.FlagValues
    trial: Trial
    metered: Metered
    engine: PictureScorer
    plain: PictureScorer
    exact: bool

    def speed(
        self, name: str, signal: Signal | Own, scores: Float[np.ndarray, "G L"]
    ) -> dict[str, Any]:
        """What one signal takes, alone: a batch of groups again and again."""
        first, runs = self.trial.first(GROUPS), self.metered.runs
        call = lambda: self.engine.scores(first, {name: signal})
        runs.clear()
        call()
        seconds = medians({"engine": call}, self.flags.repeat)["engine"]
        one_run = runs[: len(runs) // (1 + self.flags.repeat)]
        flops, traffic = sum(r.flops for r in one_run), sum(r.traffic for r in one_run)
        pairs = decided(scores, self.trial.truth) / len(self.trial.texts) * len(first.texts)
        found = {
            "compile_seconds": sum(r.compile_seconds for r in {id(r): r for r in one_run}.values()),
            "seconds": seconds,
            "samples_per_second": first.truth.exists.size / seconds,
            "memory_bytes": max((r.memory for r in one_run), default=0),
            "flops": flops,
            "traffic_bytes": traffic,
            "seconds_per_ordered_pair": seconds / pairs if pairs > 0 else None,
            "roofline": self._roofline(flops, traffic, seconds),
        }
        compared = self.flags.plain and isinstance(signal, Signal)
        return found | (self._beside(name, signal) if compared else {})

    def _roofline(self, flops: float, traffic: float, seconds: float) -> float | None:
        """The share of the time that the device needs at least; None where no peak is told."""
        peak, bandwidth = self.flags.peak, self.flags.bandwidth
        least = [flops / (peak * 1e12)] if peak else []
        least += [traffic / (bandwidth * 1e9)] if bandwidth else []
        return max(least) / seconds if least else None

    def _beside(self, name: str, signal: Signal | Own) -> dict[str, Any]:
        """The plain form beside the engine's on the same pictures, in turns."""
        few = self.trial.first(TIMED)
        forms = {
            "engine": lambda: self.engine.scores(few, {name: signal}),
            "plain": lambda: self.plain.scores(few, {name: signal}),
        }
        ours, theirs = (call()[name] for call in forms.values())
        seconds = medians(forms, self.flags.repeat)
        return {
            "plain_seconds": seconds["plain"],
            "ratio": seconds["plain"] / seconds["engine"],
            "difference": float(np.abs(ours - theirs).max()),
            "agrees": bool(np.abs(ours - theirs).max() <= TOLERANCE) or not self.exact,
        }


def many(f: flags.FlagValues, model: Model, trial: Trial, language: str) -> dict[str, Any]:
    """The likelihood of several texts about each of several pictures, whose prefix serves all."""
    shown = trial.pictures.reshape(-1, *trial.pictures.shape[2:])
    pictures = [to_picture(shown[n % len(shown)]) for n in range(f.pictures)]
    texts = [trial.texts[n % len(trial.texts)] for n in range(f.texts)]
    describe = LANGUAGES[language].describe
    request = model.processor.prompt([[picture, describe] for picture in pictures], "answer")
    scribe = Scribe(model.processor, LANGUAGES[language], Lengths())
    room = max(len(model.processor.ids(text)) for text in texts)
    said = scribe.say([texts] * f.pictures, room)
    nothing = Texts(said.ids[..., :0], said.mask[..., :0])  # the instruction is in the prefix
    batch = jax.device_put(Telling(request, nothing, said))
    params, tell = Params(model.base), jax.jit(scoring.tell, static_argnums=0)
    forms = {"engine": lambda: tell(model.backbone, params, batch)}
    if f.plain:
        forms["plain"] = lambda: plain.tell(model.backbone, params, batch)
    results = [np.asarray(call()) for call in forms.values()]
    seconds, pairs = medians(forms, f.repeat), f.pictures * f.texts
    found = {
        "pictures": f.pictures,
        "texts": f.texts,
        "pairs_per_second": pairs / seconds["engine"],
    }
    if not f.plain:
        return found
    gap = float(np.abs(results[0] - results[1]).max())
    exact = model.backbone.unembedding(params).dtype == np.float32
    return found | {
        "ratio": seconds["plain"] / seconds["engine"],
        "difference": gap,
        "agrees": gap <= TOLERANCE or not exact,
    }
