"""What an understanding step computes: signals, rewards, and the updates of Proposer and Solver.

Ask, Solve, Generate (arXiv 2606.27376), understanding step. B pictures, K questions on each, N
answers to each in different framings, and one greedy answer more for the token entropy.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int, UInt32

from asg_jax.backbone import Backbone, PyTree
from asg_jax.engine.engine import Learned
from asg_jax.engine.programs import keys
from asg_jax.engine.report import share, shuffle, spread
from asg_jax.engine.roles import Improved, Metrics, advance, improve_speaker, named
from asg_jax.engine.state import TrainState
from asg_jax.methods.asg.settings import Memory, Settings
from asg_jax.objectives.advantages import centred_apart, ema_baseline, group_advantages
from asg_jax.objectives.texts import Said, TextLesson
from asg_jax.ops.masked import masked_mean
from asg_jax.pytree import pytree
from asg_jax.signals.difficulty import ste_difficulty, token_entropy
from asg_jax.signals.rewards import Best, best, question_penalty, solver_rewards, weighted
from asg_jax.signals.table import QUESTIONS, Asked, read
from asg_jax.signals.vote import Vote, entropy_target_update, is_easy, vote, vote_gain


@pytree
class QuestionForms:
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
      greedy: that of the greedy answer.
      noncanonical, low_information: its faults.
      words: what precedes the answer span.
      binary: the question is one for yes or no.
      yes: the answer is yes.
    """

    labels: Int[Array, "B K N"]
    greedy: Int[Array, "B K"]
    noncanonical: Bool[Array, "B K N"]
    low_information: Bool[Array, "B K N"]
    words: Int[Array, "B K N"]
    binary: Bool[Array, "B K N"]
    yes: Bool[Array, "B K N"]


@pytree
class Voted:
    """The Solver's answers to the K questions on each picture.

    Attributes:
      votes: N answers to each question, in K groups one after another; their policy learns.
      greedy: one greedy answer to each, in the canonical framing; its token entropy counts.
    """

    votes: Said
    greedy: Said


def separate(said: Said, questions: int) -> Voted:
    """The answers of one rollout: of every N + 1 answers to a question the last is the greedy one.

    v v g  v v g   for K = 2, N = 2   votes v v v v, greedy g g
    """

    def take(part: slice) -> Said:
        def each(x: Array) -> Array:
            grouped = rearrange(x, "b (k n) ... -> b k n ...", k=questions)[:, :, part]
            return rearrange(grouped, "b k n ... -> b (k n) ...")

        texts, rollout = jax.tree.map(each, (said.texts, said.rollout))
        return Said(said.request, texts, rollout)

    return Voted(take(slice(None, -1)), take(slice(-1, None)))


@pytree
class Evidence:
    """Everything that was said in a step.

    Attributes:
      asked: the Proposer's K candidates on each picture.
      answered: the Solver's K * (N + 1) answers about each picture, see `separate`.
      forms: the candidates' forms.
      answers: what the host found in the answers.
      stream: see `asg_jax.engine.programs.keys`.
    """

    asked: Said
    answered: Said
    forms: QuestionForms
    answers: Answers
    stream: UInt32[Array, "B S"]

    @property
    def voted(self) -> Voted:
        """The answers, the greedy ones apart."""
        return separate(self.answered, self.forms.parsed.shape[1])


class JudgedQuestions(NamedTuple):
    """Signals and rewards of a step.

    Attributes:
      vote: what the answers to each question agree on.
      gain: how much better than the greedy answer a vote foretells others.
      surprise: token entropy of the greedy answer, in nats.
      signals: one number for each question, by name.
      proposer: reward of each question.
      accepted: questions without fault.
      chosen: the best of them.
      solver: reward of each answer to it.
      learns: whether the Solver learns from it.
    """

    vote: Vote
    gain: Float[Array, "B K"]
    surprise: Float[Array, "B K"]
    signals: dict[str, Float[Array, "B K"]]
    proposer: Float[Array, "B K"]
    accepted: Bool[Array, "B K"]
    chosen: Best
    solver: Float[Array, "B N"]
    learns: Bool[Array, " B"]


def judge(
    settings: Settings, stop_ids: tuple[int, ...], memory: Memory, evidence: Evidence
) -> tuple[JudgedQuestions, Float[Array, " W"]]:
    """Turns what was said into rewards; nothing else than the model's own texts has a say.

    Returns:
      The judgement, and the window of recent token entropies after the step.
    """
    forms, answers = evidence.forms, evidence.answers
    numbers = settings.numbers.consistency
    votes = vote(answers.labels, forms.parsed[..., None])
    gain = vote_gain(answers.labels, answers.greedy, forms.parsed[..., None])
    surprise = greedy_entropy(settings, stop_ids, evidence.voted.greedy)
    difficulty, window = ste_difficulty(memory.window, surprise, forms.parsed, settings.difficulty)
    record = Asked(votes, difficulty, memory.entropy_target, forms.parsed)
    signals = read(QUESTIONS, settings.question_weights, record, settings.numbers)
    faults = forms.malformed, forms.subjective, forms.repeated
    penalty = question_penalty(*faults, settings.penalties)
    asked = jnp.clip(weighted(signals, settings.question_weights) - penalty, -1, 1)
    solved = solver_rewards(
        votes,
        answers.words,
        answers.noncanonical,
        answers.low_information,
        settings.answers,
        numbers,
    )
    if settings.shuffled:
        key, other = jax.random.split(keys(evidence.stream, 1)[0, 0])
        asked = shuffle(asked, jnp.ones(asked.shape, bool), key)
        answered = jnp.broadcast_to(forms.parsed[..., None], solved.shape)
        solved = shuffle(solved, answered, other)
    accepted = forms.parsed & ~(faults[0] | faults[1] | faults[2])
    chosen = best(asked, accepted)
    teaches = ~is_easy(votes, numbers) & (votes.fraction >= settings.least_majority)
    teaches &= memory.vote_gain >= settings.least_vote_gain
    judged = JudgedQuestions(
        vote=votes,
        gain=gain,
        surprise=surprise,
        signals=signals,
        proposer=asked,
        accepted=accepted,
        chosen=chosen,
        solver=chosen.pick(solved),
        learns=chosen.exists & chosen.pick(teaches),
    )
    return judged, window


def greedy_entropy(
    settings: Settings, stop_ids: tuple[int, ...], greedy: Said
) -> Float[Array, "B K"]:
    """STE of each question, from its greedy answer."""
    rollout, numbers = greedy.rollout, settings.difficulty
    stops = (rollout.ids[..., None] == jnp.array(stop_ids)).any(-1)
    answer = rollout.mask & ~stops
    return token_entropy(rollout.entropies, answer, numbers.tokens, numbers.aggregation)


def learn(
    backbone: Backbone,
    settings: Settings,
    stop_ids: tuple[int, ...],
    slices: int,
    base: PyTree,
    state: TrainState,
    evidence: Evidence,
) -> Learned:
    """One update of Proposer and Solver, and of the running numbers.

    Args:
      backbone: static under jit.
      settings: static under jit.
      stop_ids: tokens that end a text; static under jit.
      slices: see `asg_jax.engine.roles.improve`; static under jit.
      base: frozen parameters.
      state: what the step began with.
      evidence: what was said.
    """
    memory: Memory = state.memory
    judged, window = judge(settings, stop_ids, memory, evidence)
    lessons = {
        "proposer": proposer_lesson(settings, evidence, judged),
        "solver": solver_lesson(settings, memory, evidence, judged),
    }

    speakers = {"proposer": settings.proposer, "solver": settings.solver}

    def update(name: str, key: Array) -> Improved:
        learning = partial(improve_speaker, backbone, base, settings.optimizer, speakers[name])
        rest = lessons[name], key, settings.adapter_dropout, slices
        return learning(state.roles[name], *rest)

    of_roles = keys(evidence.stream, 3)[0, 1:]  # the first one shuffles
    improved = {name: update(name, key) for name, key in zip(lessons, of_roles, strict=True)}
    answered = evidence.forms.parsed
    kept = jnp.broadcast_to(judged.learns[:, None], judged.solver.shape)
    memory = replace(
        memory,
        baseline=ema_baseline(memory.baseline, judged.solver, kept, settings.baseline_momentum),
        entropy_target=entropy_target_update(
            memory.entropy_target, judged.vote.entropy, answered, settings.numbers.consistency
        ),
        window=window,
        vote_gain=ema_baseline(
            memory.vote_gain, judged.gain, answered, settings.numbers.consistency.gain_decay
        ),
    )
    after = advance(state, improved, memory)
    metrics = _metrics(settings, evidence, judged, after)
    for name, role in improved.items():
        metrics |= named(role.metrics, name)
    return Learned(after, metrics, judged)


def proposer_lesson(settings: Settings, evidence: Evidence, judged: JudgedQuestions) -> TextLesson:
    """The candidates of each picture, those without a question included; or the best alone."""
    every = jnp.ones(judged.proposer.shape, bool)
    if settings.proposer.objective.imitates:
        place = judged.chosen.place[:, None]
        kept = judged.accepted & (jnp.arange(every.shape[1]) == place)
        return TextLesson(evidence.asked, jnp.ones(kept.shape), kept)
    return TextLesson(evidence.asked, group_advantages(judged.proposer, every), every)


def solver_lesson(
    settings: Settings, memory: Memory, evidence: Evidence, judged: JudgedQuestions
) -> TextLesson:
    """The answers to the best question of each picture; or those of the majority alone."""
    votes, questions = evidence.voted.votes, evidence.forms.parsed.shape[1]
    each = lambda x: judged.chosen.pick(rearrange(x, "b (k n) ... -> b k n ...", k=questions))
    texts, rollout = jax.tree.map(each, (votes.texts, votes.rollout))
    kept = jnp.broadcast_to(judged.learns[:, None], judged.solver.shape)
    if settings.solver.objective.imitates:
        kept &= judged.chosen.pick(judged.vote.agrees)
    advantages = solver_advantages(settings, memory, evidence.answers, judged)
    return TextLesson(Said(votes.request, texts, rollout), advantages, kept)


def solver_advantages(
    settings: Settings, memory: Memory, answers: Answers, judged: JudgedQuestions
) -> Float[Array, "B N"]:
    """Rewards of the answers to the best questions, less what is expected."""
    advantages = judged.solver - memory.baseline
    if not settings.balanced:
        return advantages
    yes, binary = (
        judged.chosen.pick(x) & judged.learns[:, None] for x in (answers.yes, answers.binary)
    )
    return centred_apart(advantages, binary & yes, binary & ~yes)


def _metrics(
    settings: Settings, evidence: Evidence, judged: JudgedQuestions, after: TrainState
) -> Metrics:
    """Rewards and signals, and what shows when a reward is won by a trick."""
    forms, answers, rollout = evidence.forms, evidence.answers, evidence.answered.rollout
    asked, votes = forms.parsed, judged.vote
    voted = jnp.broadcast_to(asked[..., None], answers.yes.shape)
    kept = jnp.broadcast_to(judged.learns[:, None], judged.solver.shape)
    low, high = settings.numbers.consistency.informative
    informative = (votes.entropy > low) & (votes.entropy < high)
    lengths = rollout.mask.sum(-1, dtype=jnp.float32).reshape(*asked.shape, -1)
    everything = jnp.ones(asked.shape, bool)
    return {
        **spread("proposer", judged.proposer, everything),
        **spread("solver", judged.solver, kept),
        **{f"signal/{name}": masked_mean(x, asked) for name, x in judged.signals.items()},
        "signal/ste": masked_mean(judged.surprise, asked),
        "signal/vote_entropy": masked_mean(votes.entropy, asked),
        "signal/majority": masked_mean(votes.fraction, asked),
        "signal/vote_gain": masked_mean(judged.gain, asked),
        "check/yes_rate": share(answers.yes, voted & answers.binary),
        "check/answer_tokens": masked_mean(lengths, asked[..., None]),
        "check/well_formed": judged.accepted.mean(),
        "check/informative": share(informative, asked),
        "check/question_variety": share(forms.novel, asked),
        "check/noncanonical": share(answers.noncanonical, voted),
        "check/learned": judged.learns.mean(),
        "state/baseline": after.memory.baseline,
        "state/entropy_target": after.memory.entropy_target,
        "state/vote_gain": after.memory.vote_gain,
        "state/skipped": after.skipped,
    }
