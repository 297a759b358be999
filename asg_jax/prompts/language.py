"""A language: the wordings of every task that the roles have, and readers of what they say."""

from __future__ import annotations

import re
from dataclasses import dataclass

from asg_jax.answers import parse_question

Pair = tuple[str, str]  # question, answer

PAIR = re.compile(
    r"^[ \t]*q(?:uestion)?[ \t]*\d*[ \t]*[:.)][ \t]*(\S[^\n]*\?)[ \t]*\n+"
    r"[ \t]*a(?:nswer)?[ \t]*\d*[ \t]*[:.)][ \t]*(\S[^\n]*)$",
    re.MULTILINE | re.IGNORECASE,
)
# Why questions on a caption are rejected: with two that fit, no other fault weighs enough.
REASON = "it did not hold two different questions with short answers"
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
    """

    framings: tuple[str, ...]
    ask: str
    describe: str
    decompose: str
    again: str

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


def _tidy(text: str) -> str:
    return " ".join(text.split())
