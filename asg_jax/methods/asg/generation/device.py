"""What a generation step computes: signals, rewards, and the update of the Generator.

Ask, Solve, Generate (arXiv 2606.27376), generation step. B prompts, L drawings of each, M questions
on each prompt.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from asg_jax.backbone import Backbone, PyTree, Request
from asg_jax.engine.engine import Learned
from asg_jax.engine.programs import Likeness, keys
from asg_jax.engine.report import shuffle, spread
from asg_jax.engine.roles import Metrics, advance, follow, improve_painter, named
from asg_jax.engine.state import TrainState
from asg_jax.methods.asg.settings import Settings
from asg_jax.objectives.advantages import batch_advantages, group_advantages
from asg_jax.objectives.painter import DrawingLesson, Painter
from asg_jax.ops.masked import masked_mean
from asg_jax.pytree import pytree
from asg_jax.rollout.image import Drawings
from asg_jax.signals.diversity import mean_distance, pairwise_distances
from asg_jax.signals.rewards import Best, best, weighted
from asg_jax.signals.table import DRAWINGS, Drawn, read
from asg_jax.signals.verdicts import YesNo


@pytree
class Marks:
    """What the host found in the specs, and in the answers about the drawings.

    Attributes:
      asked: which of the M questions exist.
      accepted: prompts whose questions are fit to judge drawings.
      quality: fitness of a prompt's questions, in [0, 1].
      attempt: number of the attempt at a prompt's questions that was taken, from 1.
      caption_words: length of the prompt.
      novel: no earlier prompt of this process's batch is the same.
      match: agreement of the majority's answer with the reference, in [0, 1].
      fraction: share of the majority.
      contradiction: one is a plain yes and the other a plain no.
      disagreement: share of the answers that are not of the reference's class.
    """

    asked: Bool[Array, "B M"]
    accepted: Bool[Array, " B"]
    quality: Float[Array, " B"]
    attempt: Int[Array, " B"]
    caption_words: Int[Array, " B"]
    novel: Bool[Array, " B"]
    match: Float[Array, "B L M"]
    fraction: Float[Array, "B L M"]
    contradiction: Float[Array, "B L M"]
    disagreement: Float[Array, "B L M"]


@pytree
class Findings:
    """What was found out about the drawings.

    Attributes:
      marks: what the host found.
      likeness: how drawings, prompts and captions resemble each other.
      probability: what the judge gives the reference answers; None where no signal needs it.
      verdict: whether a drawing shows its prompt; None where no signal needs it.
    """

    marks: Marks
    likeness: Likeness
    probability: Float[Array, "B L M"] | None
    verdict: YesNo | None


@pytree
class Results:
    """Everything that a step brought to light.

    Attributes:
      request: the captions that were drawn.
      drawn: L images of each.
      findings: what was found out about them.
      stream: see `asg_jax.engine.programs.keys`.
    """

    request: Request
    drawn: Drawings
    findings: Findings
    stream: UInt32[Array, "B S"]


class JudgedDrawings(NamedTuple):
    """Signals and rewards of the drawings.

    Attributes:
      signals: one number for each drawing, by name.
      reward: their weighted sum.
      mask: drawings that count.
      best: the best drawing of each prompt.
      picture: 8-bit pixels of the best drawing.
    """

    signals: dict[str, Float[Array, "B L"]]
    reward: Float[Array, "B L"]
    mask: Bool[Array, "B L"]
    best: Best
    picture: Array


def record(findings: Findings, exists: Bool[Array, "B L"]) -> Drawn:
    """What signals read: the drawings that exist, and what was found out about them."""
    marks, likeness = findings.marks, findings.likeness
    return Drawn(
        asked=marks.asked,
        exists=exists,
        match=marks.match,
        fraction=marks.fraction,
        contradiction=marks.contradiction,
        probability=findings.probability,
        prompts=likeness.prompts,
        captions=likeness.captions,
        pictures=likeness.pictures,
        likelihood=likeness.likelihood,
        features=likeness.features,
        verdict=findings.verdict,
    )


def judge(settings: Settings, results: Results) -> JudgedDrawings:
    """Turns answers and similarities into rewards; nobody but the model itself has a say."""
    marks = results.findings.marks
    mask = jnp.broadcast_to(marks.accepted[:, None], results.drawn.pictures.shape[:2])
    signals = read(DRAWINGS, settings.weights, record(results.findings, mask), settings.numbers)
    reward = weighted(signals, settings.weights) * marks.quality[:, None]
    winner = best(reward, mask)
    return JudgedDrawings(signals, reward, mask, winner, winner.pick(results.drawn.pictures))


def learn(
    backbone: Backbone,
    settings: Settings,
    slices: int,
    base: PyTree,
    state: TrainState,
    results: Results,
) -> Learned:
    """One update of the Generator.

    Args:
      backbone: static under jit.
      settings: static under jit.
      slices: see `asg_jax.engine.roles.improve`; static under jit.
      base: frozen parameters.
      state: what the step began with.
      results: what the step brought to light.
    """
    judged, memory = judge(settings, results), state.memory
    painter = Painter(backbone, settings.sampler, base, memory.anchor)
    improved = improve_painter(
        painter,
        settings.optimizer,
        settings.generator,
        state.roles["generator"],
        make_lesson(settings, results, judged),
        keys(results.stream, 3)[0, 2],
        settings.adapter_dropout,
        slices,
    )
    memory = replace(memory, anchor=follow(settings.generator.objective, memory.anchor, improved))
    after = advance(state, {"generator": improved}, memory)
    metrics = _metrics(results, judged) | named(improved.metrics, "generator")
    return Learned(after, metrics | {"state/skipped": after.skipped}, judged)


def make_lesson(settings: Settings, results: Results, judged: JudgedDrawings) -> DrawingLesson:
    """What the Generator learns from: all drawings by their advantages, or the best alone."""
    rewards, mask = judged.reward, judged.mask
    of_prompts = keys(results.stream, 2)
    if settings.shuffled:
        rewards = shuffle(rewards, mask, of_prompts[0, 1])
    if settings.generator.objective.imitates:
        mask &= jnp.arange(mask.shape[1]) == best(rewards, mask).place[:, None]
    scaled = {"group": group_advantages, "batch": batch_advantages}[settings.advantages]
    advantages = scaled(rewards, mask)
    return DrawingLesson(results.request, results.drawn, advantages, mask, of_prompts[:, 0])


def _metrics(results: Results, judged: JudgedDrawings) -> Metrics:
    """Rewards and signals, and what shows when a reward is won by a trick."""
    marks, mask, features = results.findings.marks, judged.mask, results.findings.likeness.features
    assert features is not None  # every step asks for them
    asked = marks.asked[:, None] & mask[..., None]
    return {
        **spread("generator", judged.reward, mask),
        **{f"signal/{name}": masked_mean(x, mask) for name, x in judged.signals.items()},
        "signal/spec_quality": marks.quality.mean(),
        "check/rejected_specs": (~marks.accepted).mean(),
        "check/spec_attempt": marks.attempt.mean(),
        "check/non_unification": masked_mean(marks.disagreement, asked),
        "check/image_distance": mean_distance(pairwise_distances(features), mask),
        "check/caption_words": marks.caption_words.mean(),
        "check/caption_variety": marks.novel.mean(),
    }
