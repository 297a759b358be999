"""Text: answers, votes, the form of questions, and the framings they are put in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asg_jax.answers import (
    QuestionForm,
    class_ids,
    is_objective_question,
    judge_questions,
    normalize_answer,
    parse_answer,
    parse_question,
    polarity,
    question_kind,
    vote_label,
    words_before_answer,
)
from asg_jax.prompts import ENGLISH

few = settings(max_examples=50)
GOOD = "How many red cubes are on the table?"


@few
@given(st.text(max_size=40))
def test_any_text_is_an_answer(text):
    core = normalize_answer(parse_answer(text))
    assert len(core.split()) <= 8
    assert normalize_answer(core) in (core, core.rstrip(" .:;!?\"'"))  # a cut may bare punctuation
    assert words_before_answer(text) <= len(text.split())
    assert vote_label(GOOD, text).name and vote_label("Is it open now?", text).name


def test_the_answer_is_what_the_tag_holds():
    text = "I see two\nmugs. <answer>\n2 mugs\n</answer> Done."
    assert parse_answer(text) == "2 mugs"
    assert words_before_answer(text) == 4


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        (GOOD, "count"),
        ("What is the number of cups?", "count"),
        ("Is the lamp on?", "binary"),
        ("Is the lamp on or off?", "open"),
        ("Which country is this?", "open"),
        ("Island or mainland?", "open"),
    ],
)
def test_kinds_of_questions(question, kind):
    assert question_kind(question) == kind


@pytest.mark.parametrize(
    ("question", "answer", "label"),
    [
        (GOOD, "Three.", ("3", False, False)),
        (GOOD, "there are twelve", ("12", False, False)),
        (GOOD, "03", ("3", False, False)),
        (GOOD, "1,000", ("1000", False, False)),
        (GOOD, "twenty-one", ("21", False, False)),
        (GOOD, "none", ("0", False, False)),
        (GOOD, "no cubes", ("0", False, False)),
        (GOOD, "0.5", ("ood", False, True)),
        (GOOD, "no", ("ood", True, True)),
        (GOOD, "a lot", ("ood", True, True)),
        (GOOD, "cubes", ("ood", False, True)),
        (GOOD, "...", ("ood", True, True)),
        ("Is the lamp on?", "Yes, it is.", ("yes", False, False)),
        ("Is the lamp on?", "absent", ("no", False, False)),
        ("Is the lamp on?", "on", ("ood", False, True)),
        ("Is the lamp on?", "not visible", ("ood", True, True)),
        ("What does the sign say?", "no parking", ("no parking", False, False)),
        ("What does the sign say?", "Yes", ("yes", True, True)),
        ("What lies in the box?", "some fruit", ("some fruit", True, True)),
        ("What lies in the box?", "wholesome fruit", ("wholesome fruit", False, False)),
        ("What lies in the box?", "", ("ood", True, True)),
    ],
)
def test_votes(question, answer, label):
    assert vote_label(question, answer) == label


@few
@given(st.lists(st.sampled_from("abcd"), max_size=9))
def test_class_ids_count_up(labels):
    ids = class_ids(labels)
    assert [labels.index(label) for label in labels] == [ids.index(i) for i in ids]
    assert sorted(set(ids)) == list(range(len(set(labels))))


@pytest.mark.parametrize(
    ("answer", "sign"),
    [("Yes, two", 1), ("true", 1), ("No.", -1), ("absent", -1), ("north", 0), ("none", 0), ("", 0)],
)
def test_polarity_takes_whole_words(answer, sign):
    assert polarity(answer) == sign


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("<question>What is\n left?</question> <question>Two?</question>", "What is left?"),
        ("<Question id=1> A? </Question>", "A?"),
        ("Here you go:\n 1. What is on the left? \n2. Why?", "What is on the left?"),
        ("- How many?", "How many?"),
        ("<question></question>\nWhich one?", "Which one?"),
        ("<question>no question</question>", "no question"),
        ("I cannot ask.", None),
        ("", None),
    ],
)
def test_questions_are_found(text, question):
    assert parse_question(text) == question


@pytest.mark.parametrize(
    "question",
    [
        "What color is the cube on the left?",
        "What colour is the largest ball?",
        "What is the shape left of the red circle?",
        "Is there a blue square above the star?",
        "What color is the hat or the scarf?",
        "How many cups are red or blue?",
        "Is the lamp closest to the door open or closed at the moment?",
    ],
)
def test_objective_questions(question):
    assert is_objective_question(question)


@pytest.mark.parametrize(
    "question",
    [
        "What does she feel?",
        "Which one, left or right?",
        "Which is larger: cat vs. dog?",
        "Is the left door probably open?",
        "What is <answer>the label?",
        "What is the [color] of it?",
        "How many (count) cups are there?",
        "Which one is larger, the cat or the dog?",
        "Is the big lamp in the corner red or blue?",
        "Whatever is the color of it?",
        "What color?",
    ],
)
def test_other_questions(question):
    assert not is_objective_question(question)


def test_form_of_a_group():
    long = "What is the color of " + "the big " * 10 + "cup?"
    forms = judge_questions([GOOD, None, "how many red cubes are on the table", long, "Who is it?"])
    assert forms == [
        QuestionForm(True, malformed=False, subjective=False, repeated=False),
        QuestionForm(False, malformed=True, subjective=False, repeated=False),
        QuestionForm(True, malformed=True, subjective=True, repeated=True),
        QuestionForm(True, malformed=True, subjective=False, repeated=False),
        QuestionForm(True, malformed=True, subjective=True, repeated=False),
    ]
    assert [form.accepted for form in forms] == [True, False, False, False, False]


def test_a_repeat_alone_bars_a_question():
    forms = judge_questions(["What is the (attribute) of it?"])
    assert forms[0].malformed and forms[0].subjective
    forms = judge_questions([GOOD, GOOD.upper(), GOOD])
    assert [form.accepted for form in forms] == [True, False, False]


@few
@given(st.text(max_size=30))
def test_framings_hold_the_question_verbatim(question):
    framed = ENGLISH.frame(question)
    assert len(set(framed)) == 7
    assert all(question in text and "one to five words" in text for text in framed)
