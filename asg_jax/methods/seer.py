"""SEER (arXiv 2601.20305): an evaluator learns to compare, then teaches a reprompter.

First the Solver sees drawings of two prompts, and earns 1 for an answer in the right form and 1 for
the right one. Then the Proposer rewrites prompts, and earns P(yes) of the Solver, who no longer
learns, to whether that made a better drawing. Who draws stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from asg_jax.answers import normalize_answer
from asg_jax.backbone import Params, Sampler
from asg_jax.engine.drawing import DRAW, LEARN, REWRITE, TELL, WRITE
from asg_jax.engine.engine import JudgeKind, Moment
from asg_jax.engine.method import Examples, Phase, phase_of
from asg_jax.engine.pairs import draw_one, pair_moment, prefers_first
from asg_jax.engine.programs import Lengths
from asg_jax.engine.prompting import Source, write_prompts
from asg_jax.engine.recipe import Recipe, Step
from asg_jax.engine.roles import Optimizer, TextRole
from asg_jax.engine.speaking import Scored, best_rows, learn_speaker
from asg_jax.engine.state import TrainState
from asg_jax.objectives.texts import GRPO, Said
from asg_jax.ranges import bounded
from asg_jax.signals.verdicts import comparison_reward


@dataclass(frozen=True)
class Settings:
    """Every number of the method; the paper's are not known.

    For what is not told here see `asg_jax.engine.drawing.DrawingSettings`.

    Attributes:
      name: how configs and the command line call the preset.
      evaluator_steps, reprompter_steps: steps that either stage takes; the paper has one cycle of
        both.
      samples: answers to each comparison, and rewritings of each prompt.
      temperature: divides their logits, above 0.
      judge: who compares the drawings of rewritten prompts.
      proposer, solver: how the roles learn.
    """

    name: Literal["seer"] = "seer"
    evaluator_steps: int = bounded(100, least=1)
    reprompter_steps: int = bounded(100, least=1)
    samples: int = bounded(4, least=2)
    temperature: float = bounded(1.0, above=0)
    source: Source = "captions"
    prompts: tuple[str, ...] = ()
    judge: JudgeKind = "live"
    proposer: TextRole = TextRole()
    solver: TextRole = TextRole()
    optimizer: Optimizer = Optimizer()
    lengths: Lengths = Lengths()
    sampler: Sampler = Sampler(grid=(28, 28), steps=25, guidance=1.0)
    shuffled: bool = False


def fit(settings: Settings) -> Settings:
    """Both roles by advantages within groups."""
    own = lambda role: replace(role, objective=GRPO())
    return replace(settings, proposer=own(settings.proposer), solver=own(settings.solver))


def stages(settings: Settings, steps: int) -> Settings:
    """The paper's one cycle, half of so many steps for each."""
    late = max(1, steps // 2)
    return replace(settings, evaluator_steps=max(1, steps - late), reprompter_steps=late)


class Seer(Recipe):
    """Implements `asg_jax.engine.method.Method`."""

    names = ("proposer", "solver")

    def __init__(self, *args: Any, **kwargs: Any):
        """See `asg_jax.engine.method.Preset.make`."""
        super().__init__(*args, **kwargs)
        learn_as = partial(learn_speaker, self.engine.model.backbone, self.settings)
        self.learning = {name: partial(learn_as, name) for name in self.names}
        self.frozen = Params(self.engine.model.base)
        self.draw = partial(draw_one, self.engine, self.frozen, self.settings.sampler)

    @property
    def phases(self) -> Sequence[Phase]:
        """See `asg_jax.engine.method.Method`."""
        first = Phase("evaluation", self.settings.evaluator_steps, "generation")
        return first, Phase("reprompting", self.settings.reprompter_steps, "generation")

    def step(self, state: TrainState, examples: Examples) -> Step:
        """See `asg_jax.engine.method.Method`."""
        engine, settings = self.engine, self.settings
        phase, moment = phase_of(examples.step, self.phases).name, engine.moment(examples)
        given = settings.source, settings.prompts, settings.temperature, WRITE
        prompts = write_prompts(engine, self.frozen, moment, *given)
        role = "solver" if phase == "evaluation" else "proposer"
        scored, texts = (self.compare if role == "solver" else self.rewrite)(state, moment, prompts)
        learned = engine.learn(self.learning[role], state, scored)
        heads = [{"prompt": prompt or ""} for prompt in prompts]
        return self.told(phase, learned, partial(best_rows, heads, texts))

    def compare(
        self, state: TrainState, moment: Moment, prompts: Sequence[str | None]
    ) -> tuple[Scored, list[list[str]]]:
        """The Solver's comparisons of a prompt's drawing with that of the next example's prompt."""
        engine, settings, examples = self.engine, self.settings, moment.examples
        others = [*prompts[1:], prompts[0]]
        own, other = (self.draw(texts, examples, DRAW) for texts in (prompts, others))
        second = examples.stream(LEARN)[:, 3] % 2 == examples.step % 2  # where the right one is
        shown = pair_moment(engine, examples, own, other, second)
        ask = lambda text: engine.language.compare.format(caption=text or "")
        rows = [[ask(text)] * settings.samples for text in prompts]
        told = engine.scribe.tell(rows, engine.scribe.about)
        solver, tokens = engine.params(state, "solver"), settings.lengths.answer
        said = engine.continue_texts(solver, tokens, shown, told, settings.temperature, TELL)
        texts = engine.scribe.hear(engine.placement.get(said.rollout.texts))
        sides, plain = engine.language.sides, [[normalize_answer(t) for t in row] for row in texts]
        rewards = [
            [sum(comparison_reward(text in sides, text, sides[late])) for text in row]
            for row, late in zip(plain, second.astype(int), strict=True)
        ]
        told_apart = [a is not None and a != b for a, b in zip(prompts, others, strict=True)]
        return self.scored(said, rewards, told_apart, examples), texts

    def rewrite(
        self, state: TrainState, moment: Moment, prompts: Sequence[str | None]
    ) -> tuple[Scored, list[list[str]]]:
        """The Proposer's rewritings, by how the Solver likes their drawings."""
        engine, settings, examples = self.engine, self.settings, moment.examples
        ask = lambda text: engine.language.rewrite.format(caption=text or "")
        rows = [[ask(text)] * settings.samples for text in prompts]
        told = engine.scribe.tell(rows, engine.scribe.about)
        proposer, tokens = engine.params(state, "proposer"), settings.lengths.caption
        blank, heat = engine.blank(examples), settings.temperature
        said = engine.continue_texts(proposer, tokens, blank, told, heat, REWRITE)
        texts = engine.scribe.hear(engine.placement.get(said.rollout.texts))
        texts = engine.scribe.drawable(texts)
        first, judge = self.draw(prompts, examples, DRAW), self.judge(state, "solver")
        wanted = [prompt or "" for prompt in prompts]
        rewards = [
            prefers_first(engine, judge, wanted, self.draw(column, examples, DRAW), first)
            for column in zip(*texts, strict=True)
        ]
        scores = np.stack(engine.placement.get(rewards), 1)
        return self.scored(said, scores, [bool(text) for text in wanted], examples), texts

    def scored(self, said: Said, rewards: Any, kept: list[bool], examples: Examples) -> Scored:
        """Samples with their rewards on devices."""
        arrays = np.array(rewards, np.float32), np.array(kept), examples.stream(LEARN)
        return Scored(said, *self.engine.placement.put(arrays))
