"""A language: the wordings of every task that the roles have, and readers of what they say."""

from __future__ import annotations

import re
from dataclasses import dataclass

from asg_jax.answers import normalize_answer, parse_question, yes_or_no

Pair = tuple[str, str]  # question, answer
# A question, spellings of its right answer, spellings of the wrong one.
Contrast = tuple[str, tuple[str, ...], tuple[str, ...]]
SPELLINGS = 8  # of an answer at most

PAIR = re.compile(
    r"^[ \t]*q(?:uestion)?[ \t]*\d*[ \t]*[:.)][ \t]*(\S[^\n]*\?)[ \t]*\n+"
    r"[ \t]*a(?:nswer)?[ \t]*\d*[ \t]*[:.)][ \t]*(\S[^\n]*)$",
    re.MULTILINE | re.IGNORECASE,
)
# Why questions on a caption are rejected: with two that fit, no other fault weighs enough.
REASON = "it did not hold two different questions with short answers"
# Words for the parts of a picture that is cut into so many rows and columns.
ROWS = {1: ("",), 2: ("top", "bottom"), 3: ("top", "middle", "bottom")}
COLUMNS = {1: ("",), 2: ("left", "right"), 3: ("left", "center", "right")}
LABEL = re.compile(r"^(?:caption|prompt|description)[ \t]*:[ \t]*", re.IGNORECASE)


@dataclass(frozen=True)
class Language:
    """Instructions to the roles of Ask, Solve, Generate (arXiv 2606.27376).

    Attributes:
      framings: wordings of the instruction in which the Solver meets a `{question}`; the first is
        the canonical one.
      ask: what the Proposer is told to write a question about a picture.
      describe: what the Solver is told to write the caption of a picture.
      decompose: what the Proposer is told to write questions that check a `{caption}`, with
        answers, while it sees a picture.
      again: the same after a first try was rejected for a `{reason}`.
      match: asks whether a picture shows a `{caption}`, for a plain yes or no.
      think: tells a model to take a `{caption}` apart into questions and to answer each for a
        picture, as `answers.checked_questions` reads it; empty where no model can.
      region: asks whether the part at some `{place}` of a picture is as a `{caption}` has it, for a
        plain yes or no.
      compare: shows two pictures and asks which of them shows a `{caption}`.
      write: what a model is told to write a prompt out of nothing.
      rewrite: the same in other words: what it is told to write a better form of a `{caption}`.
      yes: spellings of yes as an answer's first word, as many as a tokenizer may tell apart.
      no: spellings of no, likewise.
      sides: answers to `compare`: the first picture, and the second.
    """

    framings: tuple[str, ...]
    ask: str
    describe: str
    decompose: str
    again: str
    match: str
    think: str
    region: str
    compare: str
    write: str
    rewrite: str
    yes: tuple[str, ...]
    no: tuple[str, ...]
    sides: tuple[str, str]

    def frame(self, question: str) -> list[str]:
        """The question in all framings, its text unchanged; the first is the canonical one."""
        return [framing.format(question=question) for framing in self.framings]

    def check(self, caption: str, reason: str = "") -> str:
        """The instruction to write questions that check a caption.

        Args:
          caption: what is to be checked.
          reason: why the last try was rejected; empty for the first one.
        """
        template = self.again if reason else self.decompose
        return template.format(caption=caption, reason=reason)

    def contrast(self, question: str, answer: str) -> Contrast:
        """A question with its right answer and, if that is a yes or a no, the contrary."""
        kind = yes_or_no(normalize_answer(answer))
        if kind is None:
            return question, (answer,), ()
        return (question, self.yes, self.no) if kind == "yes" else (question, self.no, self.yes)

    def question(self, text: str) -> str | None:
        """The question that the Proposer wrote; None if there is none."""
        return parse_question(text)

    def caption(self, text: str) -> str | None:
        """The caption that the Solver wrote, its first line; None if there is none."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        bare = LABEL.sub("", lines[0]).strip("\"'` ") if lines else ""
        return bare or None

    def spec(self, text: str) -> list[Pair]:
        """The complete pairs among lines "q: ...?" and "a: ...", in order."""
        return [
            (_tidy(q).removesuffix("?").rstrip() + "?", _tidy(a)) for q, a in PAIR.findall(text)
        ]


def places(rows: int, columns: int) -> list[str]:
    """Words for the parts of a picture, row by row: "top left" and so on."""
    return [f"{row} {column}".strip() for row in ROWS[rows] for column in COLUMNS[columns]]


def _tidy(text: str) -> str:
    return " ".join(text.split())
