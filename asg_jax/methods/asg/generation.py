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
from asg_jax.methods.asg import updates
from asg_jax.methods.asg.generator import Frozen, Lesson, generator_loss
from asg_jax.methods.asg.rollouts import Drawings, Likeness, keys
from asg_jax.methods.asg.settings import Settings
from asg_jax.methods.asg.updates import Learned, Metrics
from asg_jax.methods.base import TrainState
from asg_jax.objectives.policy import batch_advantages, group_advantages
from asg_jax.pytree import pytree
from asg_jax.signals.cycle import cycle_score
from asg_jax.signals.diversity import leave_one_out_diversity, pairwise_distances
from asg_jax.signals.fidelity import pair_score, qa_fidelity
from asg_jax.signals.groups import masked_mean
from asg_jax.signals.rewards import GenerationWeights, best, generation_reward


@pytree
class Marks:
    """What the host found in the specs, and in the answers about the drawings.

    Attributes:
      asked: which of the M questions exist.
      accepted: prompts whose questions are fit to judge drawings.
      quality: of a prompt's questions.
      attempts: at a prompt's questions.
      caption_words: of the prompt.
      novel: no earlier prompt of this process's batch is the same.
      match: of the majority's answer with the reference, in [0, 1].
      fraction: share of the majority.
      contradiction: one is a plain yes and the other a plain no.
      disagreement: share of the answers that are not of the reference's class.
    """

    asked: Bool[Array, "B M"]
    accepted: Bool[Array, " B"]
    quality: Float[Array, " B"]
    attempts: Int[Array, " B"]
    caption_words: Int[Array, " B"]
    novel: Bool[Array, " B"]
    match: Float[Array, "B L M"]
    fraction: Float[Array, "B L M"]
    contradiction: Float[Array, "B L M"]
    disagreement: Float[Array, "B L M"]


@pytree
class Results:
    """Everything that a step brought to light.

    Attributes:
      request: the captions that were drawn.
      drawing: L images of each.
      marks: of the host.
      likeness: by the frozen model's embeddings.
      live, frozen: see `rollouts.Seen`.
      stream: see `rollouts.keys`.
    """

    request: Request
    drawing: Drawings
    marks: Marks
    likeness: Likeness
    live: Float[Array, "B L M"]
    frozen: Float[Array, "B L M"]
    stream: UInt32[Array, "B S"]


class Judgement(NamedTuple):
    """Signals and rewards of the drawings, (B, L).

    Attributes:
      fidelity: of the answers.
      cycle: of prompt, drawing and caption.
      diversity: within the group.
      contradiction: of the answers.
      reward: of all together.
      mask: drawings that count.
    """

    fidelity: Float[Array, "B L"]
    cycle: Float[Array, "B L"]
    diversity: Float[Array, "B L"]
    contradiction: Float[Array, "B L"]
    reward: Float[Array, "B L"]
    mask: Bool[Array, "B L"]


def judge(settings: Settings, results: Results) -> Judgement:
    """Turns answers and similarities into rewards; nobody but the model itself has a say."""
    marks, likeness, weights = results.marks, results.likeness, settings.weights
    if settings.fidelity == "vote":
        scores = pair_score(marks.match, marks.fraction)
    else:
        scores = {"live": results.live, "frozen": results.frozen}[settings.judge]
    asked = marks.asked[:, None]
    fidelity = qa_fidelity(scores, asked)
    cycle = cycle_score(likeness.caption_similarity, likeness.image_similarity)
    mask = jnp.broadcast_to(marks.accepted[:, None], fidelity.shape)
    distances = pairwise_distances(likeness.features)
    diversity = leave_one_out_diversity(distances, mask)
    contradiction = masked_mean(marks.contradiction, asked, axis=-1)
    reward = generation_reward(
        fidelity,
        cycle,
        diversity,
        contradiction,
        marks.quality[:, None],
        GenerationWeights(
            weights.fidelity, weights.cycle, weights.diversity, weights.contradiction
        ),
    )
    return Judgement(fidelity, cycle, diversity, contradiction, reward, mask)


def learn(
    backbone: Backbone, settings: Settings, base: PyTree, state: TrainState, results: Results
) -> Learned:
    """One update of the Generator.

    Args:
      backbone: static under jit.
      settings: static under jit.
      base: frozen parameters.
      state: before the step.
      results: of the step.
    """
    judged = judge(settings, results)
    role = state.roles["generator"]
    frozen, beta = Frozen(base, state.anchor), updates.penalty(settings, role)
    lesson = make_lesson(settings, results, judged)
    loss = generator_loss(backbone, settings, frozen, lesson, beta)
    improved = updates.improve(settings, settings.generator, role, loss)
    after = replace(
        state,
        step=state.step + 1,
        roles={**state.roles, "generator": improved.state},
        anchor=updates.moving_average(state.anchor, improved.state.adapter, settings.anchor_decay),
        skipped=state.skipped + improved.skipped,
    )
    metrics = _metrics(results, judged) | updates.named(improved.metrics, "generator")
    return Learned(after, metrics | {"state/skipped": after.skipped}, judged)


def make_lesson(settings: Settings, results: Results, judged: Judgement) -> Lesson:
    """What the Generator learns from: all drawings by their advantages, or (`sft`) the best."""
    rewards, mask = judged.reward, judged.mask
    own = keys(results.stream, 2)
    if settings.shuffled:
        rewards = updates.deal(rewards, mask, own[0, 1])
    scaled = {"group": group_advantages, "batch": batch_advantages}[settings.advantages]
    advantages = scaled(rewards, mask)
    if settings.update == "sft":
        mask &= jnp.arange(mask.shape[1]) == best(rewards, mask)[0][:, None]
        advantages = jnp.zeros(mask.shape)
    return Lesson(results.request, results.drawing, advantages, mask, own[:, 0])


def _metrics(results: Results, judged: Judgement) -> Metrics:
    """Rewards and signals, and what shows when a reward is won by a trick."""
    marks, mask = results.marks, judged.mask
    asked = marks.asked[:, None] & mask[..., None]
    distances = pairwise_distances(results.likeness.features)
    others = ~jnp.eye(mask.shape[1], dtype=bool) & mask[..., None]
    signal = {
        f"signal/{name}": masked_mean(getattr(judged, name), mask)
        for name in ("fidelity", "cycle", "diversity", "contradiction")
    }
    return {
        **updates.spread("generator", judged.reward, mask),
        **signal,
        "signal/caption_similarity": masked_mean(results.likeness.caption_similarity, mask),
        "signal/image_similarity": masked_mean(results.likeness.image_similarity, mask),
        "signal/spec_quality": marks.quality.mean(),
        "check/rejected_specs": (~marks.accepted).mean(),
        "check/spec_attempts": marks.attempts.mean(),
        "check/non_unification": masked_mean(marks.disagreement, asked),
        "check/live_judge": masked_mean(results.live, asked),
        "check/frozen_judge": masked_mean(results.frozen, asked),
        "check/image_distance": masked_mean(distances, others),
        "check/caption_words": marks.caption_words.mean(),
        "check/caption_variety": marks.novel.mean(),
    }
