"""Questions and answers as text: reading them, comparing them, judging a question's form.

The method needs strings only here; whatever follows works on class ids and flags. The rules are
those of Ask, Solve, Generate (arXiv 2606.27376), for English.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from asg_jax.counts import read_count

UNKNOWN = "unknown"  # the answer of a text without one
OTHER = "ood"  # the class of answers outside their question's classes

YES = {"yes", "y", "true", "present", "exists", "visible"}
NO = {"no", "n", "false", "absent", "missing", "none"}
EMPTY_PHRASES = {
    *("yes", "true", "no", "false", "supported", "unsupported", "present", "absent"),
    *("unknown", "unclear", "not visible", "cannot tell", "n/a", "none"),
    *("something", "anything", "object", "item", "thing"),
}
BINARY_STARTS = (
    *("is", "are", "was", "were", "does", "do", "did", "can", "could", "should", "would"),
    *("has", "have", "had"),
)


def _any_of(*phrases: str) -> re.Pattern[str]:
    """Matches each of the phrases as whole words."""
    return re.compile(rf"\b(?:{'|'.join(phrases)})\b")


VAGUE_COUNT = _any_of(
    *("many", "a lot", "lots", "several", "some", "few", "numerous", "multiple"),
)
ASKS_COUNT = _any_of("how many", "number of", "count")
BINARY = _any_of(*BINARY_STARTS)
QUESTION_STARTS = _any_of("what", "which", "how", "where", "when", "who", *BINARY_STARTS)
CHOICE = _any_of("or", "vs")
# "..., left or right?", "Is it red or blue?"; but not "What color is the hat or the scarf?", whose
# two things are asked about: there the alternatives are neither set off nor what the verb asks for.
OFFERED_CHOICE = re.compile(
    rf"(?:^(?:{'|'.join(BINARY_STARTS)})\b.*|(?:^|[,:;] ?)(?:\S+ ){{1,3}})"
    r"\b(?:or|vs)\.?(?: \S+){1,3}$"
)
GUESSWORK = _any_of(
    *("about to", "just", "recently", "likely", "probably", "appears to", "seems to"),
    "unsupported",
)
MARKUP = re.compile(
    r"```|</?(?:answer|rationale|count|attribute|question)\b"
    r"|[\[{<(][^\]}>)]*\b(?:count|attribute|comparison|number of|colou?r|shape|position"
    r"|spatial relation)\b[^\]}>)]*[\]}>)]"
)
OBJECTIVE_CUES = _any_of(
    *("how many", "count", "number of", "what (?:is|are|was|were)", "which", "compare"),
    *("difference", "ratio", "total", "sum", "percent", "percentage", "value", "label", "name"),
    *("colou?r", "shape", "position", "pattern", "material", "made of", "left", "right", "top"),
    *("bottom", "above", "below", "inside", "outside", "walking", "standing", "sitting"),
    *("running", "open", "closed", "attached", "hanging", "resting", "supported", "unsupported"),
    *("highest", "lowest", "maximum", "minimum"),
)


class Label(NamedTuple):
    """The class that an answer votes for.

    Attributes:
      name: what messages call the class.
      low_information: the answer says nothing ("unclear", "several").
      noncanonical: it is of low information, or outside the question's classes.
    """

    name: str
    low_information: bool
    noncanonical: bool


class QuestionForm(NamedTuple):
    """Faults in the form of a proposed question; any of them keeps it from the Solver's update.

    Attributes:
      parsed: there is a question at all; it is answered if there is.
      malformed: it is missing, does not end as a question, has not 4 to 24 words, or holds markup
        or a placeholder.
      subjective: it does not ask for something that can be checked.
      repeated: an earlier candidate of the same group is the same.
    """

    parsed: bool
    malformed: bool
    subjective: bool
    repeated: bool

    @property
    def accepted(self) -> bool:
        """Whether the form is without fault."""
        return not (self.malformed or self.subjective or self.repeated)


def plain_answer(text: str) -> str:
    """Lower case, commas dropped ("1,234" is 1234), spaces collapsed, outer punctuation off.

    (EvoLMM, arXiv 2511.16672; `normalize_answer` is ASG's.)
    """
    return " ".join(text.lower().replace(",", "").split()).strip(string.punctuation + " ")


def checked_questions(text: str) -> list[tuple[str, str]]:
    """The questions that a text asks and answers with yes or no, and these answers.

    Only what stands in its span of thought counts; without tags, all of it. A text without such a
    question counts as one that was answered with no. (UniGen CoT-V, arXiv 2505.14682.)
    """
    thought = text.partition("<think_start>")[2] if "<think_start>" in text else text
    thought = thought.partition("<think_end>")[0]
    found = re.findall(r"(.*?\?)\s*(yes|no)\b", thought, re.DOTALL | re.IGNORECASE)
    return [(asked.lstrip("; .\n\t"), said.lower()) for asked, said in found] or [("", "no")]


def normalize_answer(text: str, max_words: int = 8) -> str:
    """Lower case, commas and white space collapsed, outer punctuation off, the first words.

    Args:
      text: an answer.
      max_words: words that are kept; 0 keeps all.
    """
    core = " ".join(text.lower().replace(",", " ").split()).strip(" .,:;!?\"'")
    return " ".join(core.split()[: max_words or None])


def parse_answer(text: str) -> str:
    """The answer in a Solver's text: what the first answer tag holds, else the last line."""
    tagged = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (tagged and tagged[1].strip()) or (lines[-1] if lines else UNKNOWN)


def words_before_answer(text: str) -> int:
    """Words before the answer tag; without a tag, all words."""
    return len(re.split("<answer>", text, maxsplit=1, flags=re.IGNORECASE)[0].split())


def question_kind(question: str) -> Literal["count", "binary", "open"]:
    """What kind of answer a question asks for."""
    text = question.lower().strip()
    if ASKS_COUNT.search(text):
        return "count"
    return "binary" if BINARY.match(text) and not CHOICE.search(text) else "open"


def yes_or_no(answer: str) -> str | None:
    """'yes' or 'no' where a normalised answer is a synonym or starts with the word itself."""
    word = answer.split(maxsplit=1)[0].strip(".;:!?") if answer else ""
    if answer in YES or word == "yes":
        return "yes"
    return "no" if answer in NO or word == "no" else None


def vote_label(question: str, answer: str) -> Label:
    """The class of an answer, so that "three" and "3 cups" count as one vote for "3".

    An answer to a count that names no whole number (`counts.read_count`) is outside the classes.
    """
    core = normalize_answer(answer)
    kind = question_kind(question)
    if kind == "count":
        count = read_count(answer)
        vague = not core or VAGUE_COUNT.search(core) is not None
        low = vague or count is None and core in EMPTY_PHRASES
        return Label(OTHER if count is None else str(count), low, low or count is None)
    name = yes_or_no(core) if kind == "binary" else core or None
    if kind == "binary" and name:  # here a plain yes or no is what was asked for
        return Label(name, False, False)
    low = not core or core in EMPTY_PHRASES or VAGUE_COUNT.search(core) is not None
    return Label(name or OTHER, low, low or name is None)


def class_ids(labels: Iterable[str]) -> list[int]:
    """Numbers for classes, in the order in which they appear."""
    seen: dict[str, int] = {}
    return [seen.setdefault(label, len(seen)) for label in labels]


def polarity(answer: str) -> int:
    """1 for an explicit yes, -1 for an explicit no, 0 for everything else."""
    core = normalize_answer(answer)
    word = core.split(maxsplit=1)[0] if core else ""
    if word == "yes" or core in {"true", "1", "present"}:
        return 1
    return -1 if word == "no" or core in {"false", "0", "absent"} else 0


def parse_question(text: str) -> str | None:
    """The question in a Proposer's text: what its tag holds, else the first line that asks."""
    tagged = re.search(r"<question\b[^>]*>(.*?)</question>", text, re.DOTALL | re.IGNORECASE)
    if tagged and tagged[1].strip():
        return " ".join(tagged[1].split())
    for line in text.splitlines():
        bare = re.sub(r"^\s*(?:\d+[.)]|[-*])\s+", "", line).strip()
        if bare.endswith("?"):
            return bare
    return None


def is_objective_question(question: str) -> bool:
    """Whether a question asks for something that the picture settles.

    It has four words or more, starts and ends as a question, names something checkable, and neither
    offers its answers ("red or blue?"), asks for guesses ("about to") nor holds markup.
    """
    text = " ".join(question.lower().split())
    return (
        len(text.split()) >= 4
        and text.endswith("?")
        and QUESTION_STARTS.match(text) is not None
        and OBJECTIVE_CUES.search(text) is not None
        and OFFERED_CHOICE.search(text) is None
        and MARKUP.search(text) is None
        and not (BINARY.match(text) and GUESSWORK.search(text))
    )


def judge_questions(questions: Sequence[str | None]) -> list[QuestionForm]:
    """Judges the form of one image's candidates; None stands for a text without a question."""
    forms, seen = [], set()
    for question in questions:
        if question is None:
            forms.append(QuestionForm(False, malformed=True, subjective=False, repeated=False))
            continue
        core = normalize_answer(question, max_words=0)
        malformed = (
            not question.rstrip().endswith("?")
            or not 4 <= len(question.split()) <= 24
            or MARKUP.search(question.lower()) is not None
        )
        subjective = not is_objective_question(question)
        forms.append(QuestionForm(True, malformed, subjective, core in seen))
        seen.add(core)
    return forms
