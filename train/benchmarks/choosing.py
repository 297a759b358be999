"""Choosing among drawings by the model's own verdict: what it gains, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.random import fold_in
from jaxtyping import Float, UInt8

from asg_jax.backbone import Params, Sampler, to_uint8
from asg_jax.errors import UserError
from asg_jax.models.places import new_file, write_file
from asg_jax.models.registry import Model
from asg_jax.prompts import LANGUAGES
from asg_jax.train.choosing import plan_of, pruned, steps_of
from asg_jax.train.evaluate.generation import DRAWN, draw_all, judge_pictures
from asg_jax.train.evaluate.outcomes import ALL
from asg_jax.train.evaluate.prompts import PicturePrompt, prompt_set
from asg_jax.train.evaluate.scores import GENERATION, Scores, compare, summary
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evolve.config import RunConfig, read
from asg_jax.train.evolve.learned import open_roles
from asg_jax.train.flags import define_config, number, parse
from asg_jax.train.verifying import VERIFIERS, Verifier

USAGE = "usage: asg-jax bench choosing [--config=CONFIG] [--model=MODEL] [--out=FILE.json]"
ONE, EXACT = "one", "the exact judge"
TOGETHER = 20  # prompts whose drawings are looked at at once

Pictures = UInt8[np.ndarray, "N 32 32 3"]


class Way(NamedTuple):
    """A way to get one picture of each prompt.

    Attributes:
      pictures: what comes out.
      evaluations: of the network, per picture.
      verdicts: pictures that are looked at, per picture that comes out.
      rival: name of the way that it is compared with beside one drawing; empty if none.
    """

    pictures: Pictures
    evaluations: int
    verdicts: int
    rival: str = ""


def define() -> flags.FlagValues:
    """The benchmark's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("model", None, "Checkpoint, shipped model or run; config.model if not.", f)
    flags.DEFINE_list("verifiers", list(VERIFIERS), "How the model judges drawings.", f)
    number(f, "prompts", 300, "Prompts, one picture each.", least=2, most=100_000)
    number(f, "several", 4, "Drawings of which the best counts.", least=2, most=1000)
    number(f, "wide", 8, "Drawings that a search begins with.", least=2, most=1000)
    flags.DEFINE_string("out", None, "JSON file for all numbers.", f)
    define_config(f, "bagel_tiny")
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark.

    Raises:
      UserError: a verifier is unknown.
    """
    f = define()
    if parse(f, argv, USAGE) is None:
        return
    unknown = [name for name in f.verifiers if name not in VERIFIERS]
    if unknown:
        raise UserError(f"no verifier is called {unknown[0]}; known are {', '.join(VERIFIERS)}.")
    out, config = new_file(f.out) if f.out else None, read(f.config.to_dict())
    report = run(f, config)
    print("\n".join(lines(report)))
    if out is not None:
        write_file(out, (json.dumps(report) + "\n").encode())


def run(f: flags.FlagValues, config: RunConfig) -> dict[str, Any]:
    """What every way to choose gains over one drawing, by the exact judge."""
    name = f.model or config.model
    model, roles = open_roles(name)
    prompts = prompt_set(config.eval.seed, f.prompts)
    gallery = Gallery(model, roles, config.language, config.eval, prompts)
    ways = gallery.ways(f.several, f.wide, f.verifiers)
    scores = {name: gallery.scored(way.pictures) for name, way in ways.items()}
    return {
        "benchmark": "choosing",
        "model": name,
        "settings": {"prompts": f.prompts, "several": f.several, "wide": f.wide},
        "steps": steps_of(model.backbone.spec, gallery.sampler),
        "seed": config.eval.seed,
        "jax": jax.__version__,
        "ways": {name: _told(way, scores, name) for name, way in ways.items()},
    }


def _told(way: Way, scores: Mapping[str, Scores], name: str) -> dict[str, Any]:
    """A way's score, and its gain over one drawing and over its rival."""
    picked, own = lambda table: table[GENERATION][DRAWN][ALL], scores[name]
    found = {
        "evaluations": way.evaluations,
        "verdicts": way.verdicts,
        "points": picked(summary(own)),
        "gain": picked(compare(scores[ONE], own)),
    }
    if way.rival:
        found["less_best"] = picked(compare(scores[way.rival], own))
    return found


def best(several: int, verifier: str) -> str:
    """How the best of several drawings is called."""
    return f"best of {several} by {verifier}"


@dataclass(frozen=True, eq=False)
class Gallery:
    """A model that draws prompts and looks at its drawings.

    Attributes:
      model: backbone and processor.
      roles: parameters by role.
      language: that verifiers speak.
      settings: of the drawings.
      prompts: what is drawn.
    """

    model: Model
    roles: Mapping[str, Params]
    language: str
    settings: EvalSettings
    prompts: Sequence[PicturePrompt]

    @property
    def sampler(self) -> Sampler:
        """How drawings are made."""
        return self.settings.sampler(self.model.backbone.spec)

    def scored(self, pictures: Pictures) -> Scores:
        """The exact judge's verdicts."""
        outcomes = judge_pictures(self.prompts, pictures[None], self.settings.seed)
        return Scores({GENERATION: outcomes})

    def ways(self, several: int, wide: int, verifiers: Sequence[str]) -> dict[str, Way]:
        """One drawing; the best of several by each verifier and by the truth; searches."""
        numbers = np.arange(len(self.prompts))
        wanted = np.stack(np.meshgrid(numbers, np.arange(several)), -1).reshape(-1, 2)
        painter = self.roles["generator"]
        drawn = draw_all(self.model, painter, self.prompts, wanted, self.settings)
        drawn = drawn.reshape(several, len(numbers), *drawn.shape[1:])
        steps = steps_of(self.model.backbone.spec, self.sampler)
        pick = lambda scores: Way(drawn[scores.argmax(0), numbers], several * steps, several)
        right = [self.scored(one).parts[GENERATION].right[DRAWN][0] for one in drawn]
        ways = {ONE: Way(drawn[0], steps, 0), best(several, EXACT): pick(np.array(right))}
        texts = list(map(str, self.prompts))
        longest = max(len(self.model.processor.ids(text)) for text in texts)
        for name in verifiers:
            language, grid = LANGUAGES[self.language], self.sampler.grid
            solver = self.roles["solver"]
            verifier = Verifier(self.model, solver, language, name, grid, longest)
            rival = best(several, name)
            ways[rival] = pick(looked(verifier, texts, drawn))
            ways[f"search of {wide} by {name}"] = self._searched(verifier, wide, rival)
        return ways

    def _searched(self, verifier: Verifier, wide: int, rival: str) -> Way:
        """The survivor of a search for every prompt."""
        model, plan = self.model, plan_of(wide, 1)
        key, painter = jax.random.key(self.settings.seed), self.roles["generator"]
        texts = list(map(str, self.prompts))
        request = model.processor.prompt([[text] for text in texts], "draw")
        found = []
        for n, text in enumerate(texts):
            own, noise = jax.tree.map(itemgetter(slice(n, n + 1)), request), fold_in(key, n)
            verdict = partial(verifier, [text])
            found.append(pruned(model, painter, own, self.sampler, verdict, noise, plan))
        pictures = np.stack([np.asarray(to_uint8(one.pixels))[0] for one in found])
        return Way(pictures, found[0].evaluations, found[0].verdicts, rival)


def looked(
    verifier: Callable[..., Float[np.ndarray, "B K"]],
    prompts: Sequence[str],
    drawn: UInt8[np.ndarray, "K N H W 3"],
) -> Float[np.ndarray, "K N"]:
    """What a verifier says of K drawings of each prompt, of some prompts at a time."""
    found = []
    for start in range(0, len(prompts), TOGETHER):
        rows = np.arange(start, start + TOGETHER) % len(prompts)  # one shape for all
        pixels = jnp.asarray(drawn[:, rows].swapaxes(0, 1), jnp.float32) / 255
        found.append(verifier([prompts[row] for row in rows.tolist()], pixels).T)
    return np.concatenate(found, 1)[:, : len(prompts)]


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The table that the benchmark prints."""
    settings = report["settings"]
    yield f"{report['model']}, {settings['prompts']} prompts; points of 100 with 95 % intervals"
    gains = f"{'less one':>24}{'less best of ' + str(settings['several']):>24}"
    yield f"{'one picture of':<32}{'network':>8}{'verdicts':>9}{'right':>24}{gains}"
    for name, way in report["ways"].items():
        costs = f"{way['evaluations']:>8}{way['verdicts']:>9}"
        gains = [text(way[key], "+") if key in way else "" for key in ("gain", "less_best")]
        cells = [text(way["points"]), *("" if name == ONE else gain for gain in gains)]
        yield f"{name:<32}{costs}{''.join(f'{cell:>24}' for cell in cells)}".rstrip()


def text(interval: Sequence[float], sign: str = "") -> str:
    """A value with its interval."""
    value, low, high = (f"{x:{sign}.1f}" for x in interval)
    return f"{value} ({low} to {high})"
