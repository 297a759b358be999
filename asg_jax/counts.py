"""Reads how many things an answer counts."""

from __future__ import annotations

import re

ONES = "zero one two three four five six seven eight nine".split()
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
MULTIPLES = {"million": 1_000_000, "thousand": 1000, "hundred": 100, "dozen": 12}
VALUES = {word: n for n, word in enumerate(ONES + TEENS)}
VALUES |= {word: 10 * n for n, word in enumerate(TENS, 2)}

# An answer is read up to this word, as `asg_jax.answers.normalize_answer` does.
WORDS_READ = 8

_NUMBER = rf"(?:\d{{1,12}}|\b(?:{'|'.join([*VALUES, *MULTIPLES])})\b)"
# Numbers side by side: a compound, or a range or list that is no single count.
_RUN = re.compile(
    rf"(?:\b(?:an?|half(?: an?)?) (?={'|'.join(MULTIPLES)}))?{_NUMBER}"
    rf"(?:(?:[ \-–—,/]| and | or | to |, )+{_NUMBER})*"
)
_GROUPS = re.compile(r"(?<![\w.,])\d{1,3}(?:([, '’_])\d{3})(?:\1\d{3})*(?![.,]?\d)")
_NOUGHTS = re.compile(r"(?<=\d)\.0{1,2}(?![\d.,])")  # "3.0" is 3
# What stands right before a number that is none of things, or not the number itself.
_BEFORE = re.compile(
    r"(?:[\w.,/:$#+]|(?:^|\s)[-−–]|\b(?:minus|negative|half(?: an?)?|quarter of"
    r"|(?:more|less|fewer|greater|other) than|at (?:least|most)|over|under|up to|several|few"
    r"|nothing but|many) )$"
)
# What follows such a number: another digit, an ordinal, a unit, a fraction.
_AFTER = re.compile(
    r"[\w%°\-–—/]|[.,:]\d| (?:per ?cent|and (?:a|one|three) (?:half|third|quarters?)"
    r"|(?:half|halves|thirds?|quarters?|tenths?|or (?:so|more|less|fewer))\b)"
)
_NONE = re.compile(
    r"\b(?:none|nobody|nothing|nil|no[- ]one|not (?:one|any|a single(?: one)?)"
    r"|(?:is|are|do|does)n['’]t any)\b"
    r"|\bno (?!more|less|fewer|idea|clue|answer|way|doubt|info|number|numbers)(?=[a-z])"
)


def read_count(answer: str) -> int | None:
    """The number of things in an answer: the first number in it, or zero if it says none.

    Digits may be grouped ("1,000", "1 000"); words reach from "zero" over "twenty-one" to "two
    thousand three hundred and five" and "a dozen"; "none", "nobody" and "no cups" are zero.

    Args:
      answer: any text.

    Returns:
      None for everything else, rather than a part of it: decimals ("0.5"), fractions, signs, ranges
      ("2-3"), bounds ("more than 3"), ordinals, shares, numbers of unnamed size ("hundreds").
    """
    text = " ".join(answer.lower().split()[:WORDS_READ])
    text = _GROUPS.sub(lambda match: re.sub(r"\D", "", match[0]), text)
    text = _NOUGHTS.sub("", text)
    none = _NONE.search(text)
    run = _RUN.search(_NONE.sub("", text))
    if none:
        return 0 if run is None else None
    if run is None or _BEFORE.search(text[: run.start()]) or _AFTER.match(text, run.end()):
        return None
    return _value(re.findall(r"\w+|[^\w\s-]", run[0]))


def _value(words: list[str]) -> int | None:
    """The number that number words and digits make together; None if they make none."""
    if words[:1] == ["half"]:
        return 6 if words[-1] == "dozen" else None
    for unit, size in MULTIPLES.items():
        if unit in words:
            place = words.index(unit)
            rest = words[place + 1 :]
            rest = rest[1:] if rest[:1] == ["and"] else rest
            times, more = _value(words[:place]), _value(rest) if rest else 0
            if not times or times >= 1000 or more is None or more >= size:
                return None
            return times * size + more
    match words:
        case ["a" | "an"]:
            return 1
        case [word]:
            return int(word) if word.isdecimal() else VALUES.get(word)
        case [tens, ones] if tens in TENS and ones in ONES[1:]:
            return VALUES[tens] + VALUES[ones]
    return None
