"""Specs: a caption of a picture, and questions that tell whether a drawing shows the same.

Ask, Solve, Generate (arXiv 2606.27376), generation step: the Proposer writes the questions, the
judge's answers about the real picture are the references. All attempts at a spec are sampled
together on one prefix, the later ones as if the one before had been rejected; the first that holds
enough questions is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asg_jax.answers import parse_answer
from asg_jax.backbone import host
from asg_jax.engine.engine import Engine, Moment
from asg_jax.engine.state import TrainState
from asg_jax.engine.texts import framings, pad
from asg_jax.methods.asg.purposes import Purpose
from asg_jax.methods.asg.settings import Settings
from asg_jax.prompts.language import REASON, Pair
from asg_jax.rollout.text import Texts
from asg_jax.signals.fidelity import spec_quality, valid_pairs, winner

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class QASpec:
    """Questions on a caption, with the judge's answers about the real picture.

    Attributes:
      questions: those that are fit to be asked.
      references: their answers.
      tokens: these answers, as they were sampled.
      quality: how fit the questions are to judge drawings, in [0, 1].
      accepted: drawings may be judged by it.
      attempt: number of the attempt that was taken, from 1; 0 where there is no caption.
    """

    questions: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    tokens: tuple[Tokens, ...] = ()
    quality: float = 0.0
    accepted: bool = False
    attempt: int = 0


def write_specs(
    engine: Engine,
    settings: Settings,
    state: TrainState,
    moment: Moment,
    captions: Sequence[str | None],
) -> list[QASpec]:
    """A spec for each caption."""
    scribe, language = engine.scribe, engine.language
    told = [
        [language.check(caption or "", REASON if attempt else "") for attempt in _tries(settings)]
        for caption in captions
    ]
    said = engine.continue_texts(
        engine.params(state, "proposer"),
        settings.lengths.spec,
        moment,
        scribe.tell(told, scribe.decomposed),
        settings.temperatures.spec,
        Purpose.SPEC,
    )
    heard = scribe.hear(engine.placement.get(said.rollout.texts))
    chosen = [
        _first_fit(engine, settings, row) if caption else (0, [])
        for row, caption in zip(heard, captions, strict=True)
    ]
    answers = _refer(engine, settings, state, moment, [questions for _, questions in chosen])
    return [
        _judge(settings, attempt, questions, own)
        for (attempt, questions), own in zip(chosen, answers, strict=True)
    ]


def _tries(settings: Settings) -> range:
    return range(settings.retries + 1)


def _first_fit(engine: Engine, settings: Settings, texts: Sequence[str]) -> tuple[int, list[str]]:
    """The first attempt with enough questions, or else the one with most; and its questions."""
    found = []
    for text in texts:
        pairs = engine.language.spec(text)
        asked = [q for q, _ in pairs if engine.scribe.is_askable(q)][: settings.questions]
        answered: list[Pair] = [(question, "yes") for question in asked]
        count = min(len(valid_pairs(answered, settings.gate)), settings.gate.pairs[0])
        found.append((count, asked))
    place = max(range(len(found)), key=lambda n: found[n][0])  # of equal ones the first
    return place + 1, found[place][1]


Reference = tuple[str, Tokens]  # an answer and its tokens


def _refer(
    engine: Engine,
    settings: Settings,
    state: TrainState,
    moment: Moment,
    questions: Sequence[Sequence[str]],
) -> list[list[Reference]]:
    """The judge's answers about the real pictures: the majority over framings, each greedy."""
    scribe, count = engine.scribe, settings.framings
    told = [
        [text for q in row for text in framings(count, engine.language, settings.framed, q)]
        for row in pad(questions, settings.questions)
    ]
    said = engine.continue_texts(
        engine.judge(state, settings.judge, "solver"),
        settings.lengths.answer,
        moment,
        scribe.tell(told, scribe.framed),
        0.0,
        Purpose.REFER,
    )
    texts: Texts = engine.placement.get(said.rollout.texts)
    spoken, ids, mask = scribe.hear(texts), np.asarray(texts.ids), np.asarray(texts.mask)

    def reference(n: int, m: int, question: str) -> Reference:
        answers = [parse_answer(text) for text in spoken[n][m * count : (m + 1) * count]]
        place = m * count + (first := winner(question, answers)[0])
        return answers[first], tuple(ids[n, place][mask[n, place]].tolist())

    return [[reference(n, m, q) for m, q in enumerate(row)] for n, row in enumerate(questions)]


def _judge(
    settings: Settings, attempt: int, questions: Sequence[str], references: Sequence[Reference]
) -> QASpec:
    known = dict(zip(questions, references, strict=True))
    pairs: list[Pair] = [(q, answer) for q, (answer, _) in zip(questions, references, strict=True)]
    judged = spec_quality(pairs, settings.gate)
    return QASpec(
        questions=tuple(question for question, _ in judged.kept),
        references=tuple(answer for _, answer in judged.kept),
        tokens=tuple(known[question][1] for question, _ in judged.kept),
        quality=judged.quality,
        accepted=judged.accepted,
        attempt=attempt,
    )


def reference_texts(specs: Sequence[QASpec], count: int, length: int) -> Texts:
    """The reference answers of every spec as arrays.

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
    return Texts(host(ids), host(mask))
