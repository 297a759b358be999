"""Specs: a caption of a picture, and questions that tell whether a drawing shows the same.

Ask, Solve, Generate (arXiv 2606.27376), generation step: the Proposer writes the questions, the
answers about the real picture, of the Solver or of the frozen model, are the references.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Array

from asg_jax.answers import parse_answer, vote_label
from asg_jax.backbone import host
from asg_jax.methods.asg.kit import Kit, Moment
from asg_jax.methods.asg.scribe import REASON, Stream, framings, pad
from asg_jax.methods.base import TrainState
from asg_jax.prompts.language import Pair
from asg_jax.rollout.text import TextRollout
from asg_jax.signals.fidelity import spec_quality


@dataclass(frozen=True)
class Spec:
    """Questions on a caption, with the judge's answers about the real picture.

    Attributes:
      questions: that are fit to be asked.
      references: their answers.
      tokens: of these answers, as they were sampled.
      quality: in [0, 1].
      accepted: drawings may be judged by it.
      reason: why not; empty if it is.
      attempts: that were made.
    """

    questions: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    quality: float = 0.0
    accepted: bool = False
    reason: str = ""
    attempts: int = 0


def write_specs(
    kit: Kit, state: TrainState, moment: Moment, captions: Sequence[str | None]
) -> list[Spec]:
    """A spec for each caption; one that is rejected is tried again, with the reason."""
    specs = [Spec()] * len(captions)
    for attempt in range(kit.settings.retries + 1):
        found = _attempt(kit, state, moment, captions, specs, attempt)
        specs = [old if old.accepted else new for old, new in zip(specs, found, strict=True)]
        pairs = zip(specs, captions, strict=True)
        # All processes go on together, because they run every program together.
        if not kit.somewhere(np.array([not spec.accepted and bool(text) for spec, text in pairs])):
            break
    return specs


def _attempt(
    kit: Kit,
    state: TrainState,
    moment: Moment,
    captions: Sequence[str | None],
    before: Sequence[Spec],
    attempt: int,
) -> list[Spec]:
    scribe, settings = kit.scribe, kit.settings
    told = [
        [kit.language.check(caption or "", spec.reason)]
        for caption, spec in zip(captions, before, strict=True)
    ]
    texts, heat = scribe.tell(told, scribe.check), settings.temperatures.spec
    said = kit.speak(
        kit.params(state, "proposer"), "spec", moment, texts, heat, Stream.SPEC + attempt
    )
    pairs = [kit.language.spec(row[0]) for row in kit.hear(said.rollout)]
    askable = [[q for q, _ in row if scribe.is_askable(q)][: settings.questions] for row in pairs]
    questions = [row if caption else [] for row, caption in zip(askable, captions, strict=True)]
    answers = _refer(kit, state, moment, questions)
    return [
        replace(_judge(*one), attempts=attempt + 1) for one in zip(questions, answers, strict=True)
    ]


Reference = tuple[str, tuple[int, ...]]  # an answer and its tokens


def _refer(
    kit: Kit, state: TrainState, moment: Moment, questions: Sequence[Sequence[str]]
) -> list[list[Reference]]:
    """The judge's answers about the real pictures: the majority over framings, each greedy."""
    settings, scribe = kit.settings, kit.scribe
    count = settings.framings
    told = [
        [text for q in row for text in framings(count, kit.language, settings.framed, q)]
        for row in pad(questions, settings.questions)
    ]
    texts = scribe.tell(told, scribe.framed)
    said = kit.speak(kit.judge(state), "answer", moment, texts, 0.0, Stream.REFER)
    rollout: TextRollout = kit.placement.get(said.rollout)
    spoken = scribe.hear(rollout)
    references = []
    for n, row in enumerate(questions):
        references.append([])
        for m, question in enumerate(row):
            answers = [parse_answer(text) for text in spoken[n][m * count : (m + 1) * count]]
            winner = majority(question, answers)
            tokens = np.asarray(rollout.ids)[n, m * count + winner]
            real = np.asarray(rollout.mask)[n, m * count + winner]
            references[-1].append((answers[winner], tuple(tokens[real].tolist())))
    return references


def majority(question: str, answers: Sequence[str]) -> int:
    """Index of the first answer of the most frequent class; the class seen first wins ties."""
    labels = [vote_label(question, answer).name for answer in answers]
    return labels.index(Counter(labels).most_common(1)[0][0])


def _judge(questions: Sequence[str], references: Sequence[Reference]) -> Spec:
    known = dict(zip(questions, references, strict=True))
    pairs: list[Pair] = [(q, answer) for q, (answer, _) in zip(questions, references, strict=True)]
    judged = spec_quality(pairs)
    return Spec(
        questions=tuple(question for question, _ in judged.kept),
        references=tuple(answer for _, answer in judged.kept),
        tokens=tuple(known[question][1] for question, _ in judged.kept),
        quality=judged.quality,
        accepted=judged.accepted,
        reason="" if judged.accepted else REASON,
    )


def reference_rollout(specs: Sequence[Spec], count: int, length: int) -> TextRollout:
    """The reference answers of every spec as sampled texts, for `rollout.text.score`.

    Args:
      specs: one for each prompt.
      count: M, questions per prompt; those that are missing have no tokens.
      length: most tokens of an answer.
    """
    shape = (len(specs), count, length)
    ids, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
    for n, spec in enumerate(specs):
        for m, tokens in enumerate(spec.tokens):
            ids[n, m, : len(tokens)], mask[n, m, : len(tokens)] = tokens, True
    number = lambda: host(np.zeros(shape, np.float32))
    greedy: Array = host(np.zeros(shape[:2], np.float32))
    steps = host(np.zeros(shape[:2], np.int32))
    return TextRollout(host(ids), host(mask), number(), number(), number(), greedy, steps)
