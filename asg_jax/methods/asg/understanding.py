"""What an understanding step computes: signals, rewards, and the updates of Proposer and Solver.

Ask, Solve, Generate (arXiv 2606.27376), understanding step. B pictures, K questions on each, N
answers to each in different framings, and one greedy answer more for the token entropy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from asg_jax.backbone import Backbone, PyTree
from asg_jax.methods.asg import updates
from asg_jax.methods.asg.rollouts import keys
from asg_jax.methods.asg.settings import Settings
from asg_jax.methods.asg.updates import Learned, Loss, Metrics, Said
from asg_jax.methods.base import TrainState
from asg_jax.objectives.policy import centred_apart, ema_baseline, group_advantages
from asg_jax.pytree import pytree
from asg_jax.signals.difficulty import ste_difficulty, token_entropy
from asg_jax.signals.groups import masked_mean
from asg_jax.signals.rewards import best, proposer_reward, question_penalty, solver_rewards
from asg_jax.signals.vote import Vote, entropy_target_update, is_easy, self_consistency_score, vote

INFORMATIVE = (0.02, 1.0)  # vote entropies, in nats, of questions that can teach something


@pytree
class Forms:
    """What the host found in the candidates; see `asg_jax.answers.QuestionForm`.

    Attributes:
      parsed: there is a question; the others are not answered.
      malformed, subjective, repeated: its faults.
      novel: no earlier candidate of this process's batch is the same.
    """

    parsed: Bool[Array, "B K"]
    malformed: Bool[Array, "B K"]
    subjective: Bool[Array, "B K"]
    repeated: Bool[Array, "B K"]
    novel: Bool[Array, "B K"]


@pytree
class Answers:
    """What the host found in the answers; see `asg_jax.answers.Label`.

    Attributes:
      labels: class of every answer, by number.
      noncanonical, low_information: its faults.
      words: before the answer span.
      binary: the question is one for yes or no.
      yes: the answer is yes.
    """

    labels: Int[Array, "B K N"]
    noncanonical: Bool[Array, "B K N"]
    low_information: Bool[Array, "B K N"]
    words: Int[Array, "B K N"]
    binary: Bool[Array, "B K N"]
    yes: Bool[Array, "B K N"]


@pytree
class Evidence:
    """Everything that was said in a step.

    Attributes:
      asked: by the Proposer, K candidates on each picture.
      answered: by the Solver, K * (N + 1) answers about each picture; of every N + 1 the last is
        the greedy one.
      forms: of the candidates.
      answers: of the Solver, without the greedy ones.
      stream: see `rollouts.keys`.
    """

    asked: Said
    answered: Said
    forms: Forms
    answers: Answers
    stream: UInt32[Array, "B S"]


class Judgement(NamedTuple):
    """Signals and rewards of a step.

    Attributes:
      vote: over the answers to each question.
      surprise: token entropy of the greedy answer, in nats.
      difficulty: its percentile among recent ones, those of this step included.
      consistency: r_sc of the vote.
      proposer: reward of each question.
      accepted: questions without fault.
      chosen: index of the best of them.
      solver: reward of each answer to it.
      learns: whether the Solver learns from it.
    """

    vote: Vote
    surprise: Float[Array, "B K"]
    difficulty: Float[Array, "B K"]
    consistency: Float[Array, "B K"]
    proposer: Float[Array, "B K"]
    accepted: Bool[Array, "B K"]
    chosen: Int[Array, " B"]
    solver: Float[Array, "B N"]
    learns: Bool[Array, " B"]


def judge(
    settings: Settings, stop_ids: tuple[int, ...], state: TrainState, evidence: Evidence
) -> tuple[Judgement, Float[Array, " W"]]:
    """Turns what was said into rewards; nothing else than the model's own texts has a say.

    Returns:
      The judgement, and the window of recent token entropies after the step.
    """
    forms, answers = evidence.forms, evidence.answers
    votes = vote(answers.labels, forms.parsed[..., None])
    surprise = greedy_entropy(settings, stop_ids, evidence)
    difficulty, window = ste_difficulty(state.window, surprise, forms.parsed)
    consistency = self_consistency_score(votes.entropy, votes.margin, state.entropy_target)
    faults = forms.malformed, forms.subjective, forms.repeated
    weights = settings.weights
    asked = proposer_reward(
        difficulty,
        consistency,
        question_penalty(*faults),
        forms.parsed,
        weights.ste,
        weights.consistency,
    )
    solved = solver_rewards(votes, answers.words, answers.noncanonical, answers.low_information)
    if settings.shuffled:
        key, other = jax.random.split(keys(evidence.stream, 1)[0, 0])
        every = jnp.ones(asked.shape, bool)
        asked = updates.deal(asked, every, key)
        solved = updates.deal(
            solved, jnp.broadcast_to(forms.parsed[..., None], solved.shape), other
        )
    accepted = forms.parsed & ~(faults[0] | faults[1] | faults[2])
    chosen, exists = best(asked, accepted)
    teaches = ~is_easy(votes) & (votes.fraction >= settings.least_majority)
    judged = Judgement(
        vote=votes,
        surprise=surprise,
        difficulty=difficulty,
        consistency=consistency,
        proposer=asked,
        accepted=accepted,
        chosen=chosen,
        solver=pick(solved, chosen),
        learns=exists & pick(teaches, chosen),
    )
    return judged, window


def greedy_entropy(
    settings: Settings, stop_ids: tuple[int, ...], evidence: Evidence
) -> Float[Array, "B K"]:
    """STE of each question, from the greedy answer in the canonical framing."""
    rollout = evidence.answered.rollout
    questions = evidence.forms.parsed.shape[1]
    last = lambda x: x.reshape(len(x), questions, -1, x.shape[-1])[:, :, -1]
    ids = last(rollout.ids)
    stops = (ids[..., None] == jnp.array(stop_ids)).any(-1)
    return token_entropy(
        last(rollout.entropies),
        last(rollout.mask) & ~stops,
        settings.ste_tokens,
        settings.ste_aggregation,
    )


def learn(
    backbone: Backbone,
    settings: Settings,
    stop_ids: tuple[int, ...],
    base: PyTree,
    state: TrainState,
    evidence: Evidence,
) -> Learned:
    """One update of Proposer and Solver, and of the running numbers.

    Args:
      backbone: static under jit.
      settings: static under jit.
      stop_ids: tokens that end a text.
      base: frozen parameters.
      state: before the step.
      evidence: of the step.
    """
    judged, window = judge(settings, stop_ids, state, evidence)
    losses = {
        "proposer": proposer_loss(backbone, settings, base, state, evidence, judged),
        "solver": solver_loss(backbone, settings, base, state, evidence, judged),
    }
    improved = {
        name: updates.improve(settings, settings.role(name), state.roles[name], loss)
        for name, loss in losses.items()
    }
    answered = evidence.forms.parsed
    kept = jnp.broadcast_to(judged.learns[:, None], judged.solver.shape)
    after = replace(
        state,
        step=state.step + 1,
        roles={**state.roles, **{name: role.state for name, role in improved.items()}},
        baseline=ema_baseline(state.baseline, judged.solver, kept),
        entropy_target=entropy_target_update(state.entropy_target, judged.vote.entropy, answered),
        window=window,
        skipped=state.skipped + sum(role.skipped for role in improved.values()),
    )
    metrics = _metrics(evidence, judged, after)
    for name, role in improved.items():
        metrics |= updates.named(role.metrics, name)
    return Learned(after, metrics, judged)


def proposer_loss(
    backbone: Backbone,
    settings: Settings,
    base: PyTree,
    state: TrainState,
    evidence: Evidence,
    judged: Judgement,
) -> Loss:
    """GRPO over the candidates of each picture, those without a question included."""
    beta = updates.penalty(settings, state.roles["proposer"])
    every = jnp.ones(judged.proposer.shape, bool)
    if settings.update == "sft":
        kept = judged.accepted & (jnp.arange(every.shape[1]) == judged.chosen[:, None])
        same = jnp.ones(kept.shape)
        return updates.reinforce(backbone, base, evidence.asked, same, kept, beta)
    advantages = group_advantages(judged.proposer, every)
    return updates.grpo(backbone, base, evidence.asked, advantages, every, beta, settings.clip)


def solver_loss(
    backbone: Backbone,
    settings: Settings,
    base: PyTree,
    state: TrainState,
    evidence: Evidence,
    judged: Judgement,
) -> Loss:
    """REINFORCE on the answers to the best question of each picture."""
    questions, answers = evidence.answers.labels.shape[1:]

    def chosen(x: Array) -> Array:
        return pick(x.reshape(len(x), questions, answers + 1, *x.shape[2:]), judged.chosen)[:, :-1]

    texts, rollout = jax.tree.map(chosen, (evidence.answered.texts, evidence.answered.rollout))
    kept = jnp.broadcast_to(judged.learns[:, None], judged.solver.shape)
    advantages = solver_advantages(settings, state, evidence.answers, judged)
    if settings.update == "sft":
        kept &= pick(judged.vote.agrees, judged.chosen)
        advantages = jnp.ones(kept.shape)
    said = Said(evidence.answered.request, texts, rollout)
    beta = updates.penalty(settings, state.roles["solver"])
    return updates.reinforce(backbone, base, said, advantages, kept, beta)


def solver_advantages(
    settings: Settings, state: TrainState, answers: Answers, judged: Judgement
) -> Float[Array, "B N"]:
    """Rewards of the answers to the best questions, less what is expected."""
    advantages = judged.solver - state.baseline
    if not settings.balanced:
        return advantages
    yes, binary = (
        pick(x, judged.chosen) & judged.learns[:, None] for x in (answers.yes, answers.binary)
    )
    return centred_apart(advantages, binary & yes, binary & ~yes)


def pick(x: Float[Array, "B K ..."], chosen: Int[Array, " B"]) -> Float[Array, "B ..."]:
    """The entry of one candidate of each example."""
    index = chosen.reshape(-1, *[1] * (x.ndim - 1))
    return jnp.take_along_axis(x, index, axis=1)[:, 0]


def _metrics(evidence: Evidence, judged: Judgement, after: TrainState) -> Metrics:
    """Rewards and signals, and what shows when a reward is won by a trick."""
    forms, answers, rollout = evidence.forms, evidence.answers, evidence.answered.rollout
    asked, votes = forms.parsed, judged.vote
    voted = jnp.broadcast_to(asked[..., None], answers.yes.shape)
    kept = jnp.broadcast_to(judged.learns[:, None], judged.solver.shape)
    low, high = INFORMATIVE
    informative = (votes.entropy > low) & (votes.entropy < high)
    lengths = rollout.mask.sum(-1, dtype=jnp.float32).reshape(*asked.shape, -1)
    everything = jnp.ones(asked.shape, bool)
    return {
        **updates.spread("proposer", judged.proposer, everything),
        **updates.spread("solver", judged.solver, kept),
        "signal/ste": masked_mean(judged.surprise, asked),
        "signal/difficulty": masked_mean(judged.difficulty, asked),
        "signal/vote_entropy": masked_mean(votes.entropy, asked),
        "signal/majority": masked_mean(votes.fraction, asked),
        "signal/consistency": masked_mean(judged.consistency, asked),
        "check/yes_rate": updates.share(answers.yes, voted & answers.binary),
        "check/answer_tokens": masked_mean(lengths, asked[..., None]),
        "check/well_formed": judged.accepted.mean(),
        "check/informative": updates.share(informative, asked),
        "check/question_variety": updates.share(forms.novel, asked),
        "check/noncanonical": updates.share(answers.noncanonical, voted),
        "check/learned": judged.learns.mean(),
        "state/baseline": after.baseline,
        "state/entropy_target": after.entropy_target,
        "state/skipped": after.skipped,
    }
