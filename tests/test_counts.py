"""Counts in answers: digits, words, none; what is no count is not read as another number."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asg_jax.counts import ONES, TEENS, TENS, read_count


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        *[("3", 3), ("3.", 3), ("03", 3), ("3 cups", 3), ("There are 3, I think", 3), ("(3)", 3)],
        *[("1,000", 1000), ("1,200 people", 1200), ("1,234,567", 1234567), ("1 000", 1000)],
        *[("3.0", 3), ("about 30", 30), ("10 out of 12", 10), ("answer:\n12", 12), ("**4**", 4)],
        *[("twenty-one", 21), ("twenty one", 21), ("thirteen dogs", 13)],
        *[("one hundred", 100), ("a hundred", 100), ("two hundred and five", 205)],
        *[("a hundred and twenty-one", 121), ("three hundred forty-two", 342)],
        *[("two thousand three hundred five", 2305), ("one million", 10**6), ("5 thousand", 5000)],
        *[("a dozen", 12), ("two dozen eggs", 24), ("half a dozen", 6), ("nineteen hundred", 1900)],
        *[("none", 0), ("None.", 0), ("no cups", 0), ("zero", 0), ("nobody", 0), ("no one", 0)],
        *[
            ("there are no cups", 0),
            ("nothing", 0),
            ("there aren't any", 0),
            ("not a single one", 0),
        ],
        *[("none of them", 0), ("0", 0), ("No people are there", 0)],
        ("three cups and two plates", 3),
    ],
)
def test_counts(answer, count):
    assert read_count(answer) == count


@pytest.mark.parametrize(
    "answer",
    [
        *["0.5", "2.5 cups", ".5", "1.234", "1,5", "12,34", "1,0000", "half", "two thirds"],
        *["two and a half", "half a cup", "1/2", "50%", "fifty percent", "-2", "minus two", "−3"],
        *["2-3", "2 - 3", "2–3", "2 to 3", "two or three", "between 2 and 3", "one, two, three"],
        *["more than 3", "at least two", "up to ten", "over 100", "less than five"],
        *["2nd", "twenty-first", "two-story", "3D", "v2", "10k", "12:30", "$3", "#3"],
        *["hundreds", "a few hundred", "dozens of cups", "several thousand", "hundred"],
        *["nineteen eighty four", "twenty eleven", "one hundred hundred"],
        *[
            "no",
            "no idea",
            "no more than 3",
            "none or one",
            "cups",
            "",
            "...",
            "someone",
            "9" * 5000,
        ],
    ],
)
def test_what_is_no_count(answer):
    assert read_count(answer) is None


def test_all_words_below_a_hundred():
    spoken = ONES + TEENS
    for word in TENS:
        spoken += [word, *(f"{word}-{one}" for one in ONES[1:])]
    assert [read_count(word) for word in spoken] == list(range(100))
    assert [read_count(word.replace("-", " ")) for word in spoken] == list(range(100))


@settings(max_examples=200)
@given(st.integers(0, 10**9))
def test_grouped_digits_are_the_number(number):
    assert read_count(f"{number}") == read_count(f"{number:,}") == number


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_text_is_read(text):
    count = read_count(text)
    assert count is None or 0 <= count
