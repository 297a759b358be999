"""The understanding step between the devices and the texts.

Ask, Solve, Generate (arXiv 2606.27376), understanding step.
"""

from __future__ import annotations

from collections import Counter
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
from asg_jax.methods.asg import understanding
from asg_jax.methods.asg.kit import Kit, Learner, Moment
from asg_jax.methods.asg.scribe import Stream, framings
from asg_jax.methods.asg.understanding import Answers, Evidence, Forms, Judgement
from asg_jax.methods.asg.updates import Said
from asg_jax.methods.base import Report, TrainState

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

    def __init__(self, kit: Kit):
        self.kit = kit
        learn = partial(understanding.learn, kit.backbone, kit.settings, kit.processor.stop_ids)
        self._learn = Learner(learn)

    def step(self, state: TrainState, moment: Moment) -> tuple[TrainState, Report]:
        """One step on the pictures of the moment."""
        evidence, notes = self.gather(state, moment)
        learned = self._learn(self.kit.base, state, evidence)
        metrics, judged = self.kit.placement.get((learned.metrics, learned.judgement))
        numbers = {name: float(value) for name, value in metrics.items()}
        return learned.state, Report("understanding", numbers, _rows(moment, notes, judged))

    def gather(self, state: TrainState, moment: Moment) -> tuple[Evidence, Notes]:
        """Lets the roles ask and answer; the evidence lies on devices."""
        kit = self.kit
        asked = self._ask(state, moment)
        questions = kit.scribe.questions(kit.placement.get(asked.rollout))
        answered = self._solve(state, moment, questions)
        spoken = _grouped(kit.hear(answered.rollout), kit.settings.candidates)
        found = (
            read_forms(questions),
            read_answers(questions, [[answers[:-1] for answers in row] for row in spoken]),
            moment.stream(Stream.DEAL),
        )
        evidence = Evidence(asked, answered, *kit.placement.put(found))
        return evidence, Notes(questions, spoken)

    def _ask(self, state: TrainState, moment: Moment) -> Said:
        """K candidates on each picture."""
        kit, settings = self.kit, self.kit.settings
        instruction = [kit.language.ask] * settings.candidates
        texts = kit.scribe.tell([instruction] * len(moment.ids))
        heat = settings.temperatures.question
        proposer = kit.params(state, "proposer")
        return kit.speak(proposer, "question", moment, texts, heat, Stream.ASK)

    def _solve(self, state: TrainState, moment: Moment, questions: Questions) -> Said:
        """N answers to each question and a greedy one, all on one prefix per picture."""
        kit, settings = self.kit, self.kit.settings
        wordings = partial(framings, settings.framings, kit.language, settings.framed)
        canonical = lambda question: kit.language.frame(question)[0]
        told = [
            [text for q in row for text in (*wordings(q or ""), canonical(q or ""))]
            for row in questions
        ]
        texts = kit.scribe.tell(told, kit.scribe.framed)
        heat = np.full((settings.candidates, settings.framings + 1), settings.temperatures.answer)
        heat[:, -1] = 0
        solver = kit.params(state, "solver")
        return kit.speak(solver, "answer", moment, texts, heat.ravel(), Stream.SOLVE)


def read_forms(questions: Questions) -> Forms:
    """The candidates' forms as arrays."""
    forms = [judge_questions(row) for row in questions]
    table = lambda name: host(np.array([[getattr(form, name) for form in row] for row in forms]))
    seen, novel = set(), np.zeros((len(questions), len(questions[0])), bool)
    for place in np.ndindex(novel.shape):
        core = normalize_answer(questions[place[0]][place[1]] or "", max_words=0)
        novel[place] = core not in seen
        seen.add(core)
    names = ("parsed", "malformed", "subjective", "repeated")
    return Forms(*map(table, names), novel=host(novel))


def read_answers(questions: Questions, spoken: Spoken) -> Answers:
    """The Solver's answers as arrays; classes are numbered anew for each question.

    Args:
      questions: K for each picture.
      spoken: N texts for each question.
    """
    labels = [
        [[_label(question, text) for text in texts] for question, texts in zip(*row, strict=True)]
        for row in zip(questions, spoken, strict=True)
    ]
    each = lambda read: np.array([[[read(one) for one in few] for few in row] for row in labels])
    numbers = [[class_ids(label.name for label in few) for few in row] for row in labels]
    words = [[[words_before_answer(text) for text in few] for few in row] for row in spoken]
    binary = [[question_kind(question or "") == "binary" for question in row] for row in questions]
    binary = np.broadcast_to(np.array(binary)[..., None], np.shape(words))
    return Answers(
        labels=host(np.array(numbers, np.int32)),
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


def _rows(moment: Moment, notes: Notes, judged: Judgement) -> list[dict[str, Any]]:
    """The best question on each picture, or its first text where none is without fault."""
    rows, (questions, spoken) = [], notes
    for n, k in enumerate(judged.chosen.tolist()):
        texts = spoken[n][k][:-1] if questions[n][k] else []
        votes = Counter(normalize_answer(parse_answer(text)) for text in texts)
        rows.append(
            {
                "picture": moment.ids[n],
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
