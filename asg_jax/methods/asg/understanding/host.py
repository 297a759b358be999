"""The texts of an understanding step, between its programs.

Ask, Solve, Generate (arXiv 2606.27376), understanding step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from asg_jax.answers import (
    Label,
    class_ids,
    judge_questions,
    normalize_answer,
    parse_answer,
    question_kind,
    vote_label,
    words_before_answer,
)
from asg_jax.backbone import host
from asg_jax.engine.engine import Engine, Moment
from asg_jax.engine.method import Report
from asg_jax.engine.state import TrainState
from asg_jax.engine.texts import framings
from asg_jax.methods.asg.purposes import Purpose
from asg_jax.methods.asg.settings import Settings
from asg_jax.methods.asg.understanding import device
from asg_jax.methods.asg.understanding.device import (
    Answers,
    Evidence,
    JudgedQuestions,
    QuestionForms,
)
from asg_jax.objectives.texts import Said

Questions = list[list[str | None]]  # K for each picture; None where there is none
Spoken = list[list[list[str]]]  # answers to each of them, the greedy one last


class Notes(NamedTuple):
    """What people may read of a step.

    Attributes:
      questions: K for each picture.
      spoken: the answers to them.
    """

    questions: Questions
    spoken: Spoken


class UnderstandingStep:
    """Takes understanding steps."""

    def __init__(self, engine: Engine, settings: Settings):
        self.engine, self.settings = engine, settings
        model = engine.model
        self._learn = partial(device.learn, model.backbone, settings, model.processor.stop_ids)

    def step(self, state: TrainState, moment: Moment) -> tuple[TrainState, Callable[[], Report]]:
        """One step on the pictures of the moment."""
        evidence, notes = self.gather(state, moment)
        learned = self.engine.learn(self._learn, state, evidence)
        bill = self.engine.bill()

        def report() -> Report:
            metrics, judged = self.engine.placement.get((learned.metrics, learned.judged))
            numbers = {name: float(value) for name, value in metrics.items()} | bill
            return Report("understanding", numbers, _rows(moment, notes, judged))

        return learned.state, report

    def gather(self, state: TrainState, moment: Moment) -> tuple[Evidence, Notes]:
        """Lets the roles ask and answer; the evidence lies on devices."""
        engine, count = self.engine, self.settings.candidates
        asked = self._ask(state, moment)
        questions = engine.scribe.questions(engine.placement.get(asked.rollout.texts))
        answered = self._solve(state, moment, questions)
        heard = engine.scribe.hear(engine.placement.get(answered.rollout.texts))
        spoken = _grouped(heard, count)
        found = (
            read_forms(questions),
            read_answers(questions, spoken),
            moment.examples.stream(Purpose.JUDGE),
        )
        return Evidence(asked, answered, *engine.placement.put(found)), Notes(questions, spoken)

    def _ask(self, state: TrainState, moment: Moment) -> Said:
        """K candidates on each picture."""
        engine, settings = self.engine, self.settings
        instruction = [engine.language.ask] * settings.candidates
        return engine.continue_texts(
            engine.params(state, "proposer"),
            settings.lengths.question,
            moment,
            engine.scribe.tell([instruction] * len(moment.examples.ids)),
            settings.temperatures.question,
            Purpose.ASK,
        )

    def _solve(self, state: TrainState, moment: Moment, questions: Questions) -> Said:
        """N answers to each question and a greedy one, all on one prefix per picture."""
        engine, settings = self.engine, self.settings
        wordings = partial(framings, settings.framings, engine.language, settings.framed)
        canonical = lambda question: engine.language.frame(question)[0]
        told = [
            [text for q in row for text in (*wordings(q or ""), canonical(q or ""))]
            for row in questions
        ]
        shape = settings.candidates, settings.framings + 1
        temperature = np.full(shape, settings.temperatures.answer)
        temperature[:, -1] = 0
        return engine.continue_texts(
            engine.params(state, "solver"),
            settings.lengths.answer,
            moment,
            engine.scribe.tell(told, engine.scribe.framed),
            temperature.ravel(),
            Purpose.SOLVE,
        )


def read_forms(questions: Questions) -> QuestionForms:
    """The candidates' forms as arrays."""
    forms = [judge_questions(row) for row in questions]
    table = lambda name: host(np.array([[getattr(form, name) for form in row] for row in forms]))
    seen, novel = set(), np.zeros((len(questions), len(questions[0])), bool)
    for place in np.ndindex(novel.shape):
        core = normalize_answer(questions[place[0]][place[1]] or "", max_words=0)
        novel[place] = core not in seen
        seen.add(core)
    names = ("parsed", "malformed", "subjective", "repeated")
    return QuestionForms(*map(table, names), novel=host(novel))


def read_answers(questions: Questions, spoken: Spoken) -> Answers:
    """The Solver's answers as arrays; classes are numbered anew for each question.

    Args:
      questions: K for each picture.
      spoken: N texts for each question, and the greedy one.
    """
    every = [
        [[_label(question, text) for text in texts] for question, texts in zip(*row, strict=True)]
        for row in zip(questions, spoken, strict=True)
    ]
    labels = [[few[:-1] for few in row] for row in every]
    each = lambda read: np.array([[[read(one) for one in few] for few in row] for row in labels])
    numbers = np.array([[class_ids(one.name for one in few) for few in row] for row in every])
    words = [[[words_before_answer(text) for text in few[:-1]] for few in row] for row in spoken]
    binary = [[question_kind(question or "") == "binary" for question in row] for row in questions]
    binary = np.broadcast_to(np.array(binary)[..., None], np.shape(words))
    return Answers(
        labels=host(numbers[..., :-1].astype(np.int32)),
        greedy=host(numbers[..., -1].astype(np.int32)),
        noncanonical=host(each(lambda label: label.noncanonical)),
        low_information=host(each(lambda label: label.low_information)),
        words=host(np.array(words, np.int32)),
        binary=host(binary),
        yes=host(each(lambda label: label.name == "yes")),
    )


def _label(question: str | None, text: str) -> Label:
    return vote_label(question or "", parse_answer(text))


def _grouped(texts: list[list[str]], groups: int) -> Spoken:
    """The texts of each example in so many groups."""
    size = len(texts[0]) // groups
    return [[row[n * size : (n + 1) * size] for n in range(groups)] for row in texts]


def _rows(moment: Moment, notes: Notes, judged: JudgedQuestions) -> list[dict[str, Any]]:
    """The best question on each picture, or its first text where none is without fault."""
    rows, (questions, spoken) = [], notes
    for n, k in enumerate(judged.chosen.place.tolist()):
        texts = spoken[n][k][:-1] if questions[n][k] else []
        votes = Counter(normalize_answer(parse_answer(text)) for text in texts)
        rows.append(
            {
                "picture": moment.examples.ids[n],
                "question": questions[n][k] or "",
                "answer": max(votes, key=votes.__getitem__, default=""),
                "votes": ", ".join(f"{text} {count}" for text, count in votes.most_common()),
                "vote_entropy": float(judged.vote.entropy[n, k]),
                "token_entropy": float(judged.surprise[n, k]),
                "reward": float(judged.proposer[n, k]),
                "learned": bool(judged.learns[n]),
            }
        )
    return rows
