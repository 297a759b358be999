"""Each way round a reward is called suspicious, and an honest run is not."""

import pytest

from asg_jax.train.evolve.signs import BAD, SIGNS, conclusion, verdicts

HONEST = {
    "checks": {
        "yes_rate": {"first": 0.53, "last": 0.51},
        "question_variety": {"first": 0.79, "last": 0.76},
        "kl/solver": {"first": 0.0, "last": 0.05},
        "own_number": {"first": 1.0, "last": 9.0},
        "frozen_judge": {"first": 0.71, "last": 0.70},
        "live_judge": {"first": 0.71, "last": 0.77},
        "drawn": {"open_colors": {"before": {"red": 0.2}, "after": {"red": 0.25}}},
    },
    "understanding": {"before": 71.4, "after": 76.3, "ci95": [3.6, 6.2]},
    "generation": {"before": 40.2, "after": 41.0, "ci95": [-1.0, 2.0]},
    "nonfinite_steps": 0,
    "skipped_updates": 0,
}


COLORS = {"before": {"red": 0.2}, "after": {"red": 0.6}}


def changed(**parts):
    return HONEST | parts


def bad(found):
    return [verdict.name for verdict in verdicts(found) if verdict.state == BAD]


def test_an_honest_run_is_said_to_be_one():
    every = verdicts(HONEST)
    assert conclusion(every) == "None of 8 checks shows a way round the rewards."
    told = {verdict.name: verdict.words for verdict in every}
    assert told["answers judged"] == "the exact judge confirms a gain"
    assert told["drawings judged"] == "no sure change"
    assert told["own_number"] == ""


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (changed(checks={"yes_rate": {"first": 0.5, "last": 0.7}}), "yes_rate"),
        (changed(checks={"yes_rate": {"first": 0.5, "last": 0.3}}), "yes_rate"),
        (changed(checks={"answer_tokens": {"first": 2.0, "last": 4.0}}), "answer_tokens"),
        (changed(checks={"answer_tokens": {"first": 2.0, "last": 1.0}}), "answer_tokens"),
        (changed(checks={"caption_variety": {"first": 0.9, "last": 0.3}}), "caption_variety"),
        (changed(checks={"noncanonical": {"first": 0.0, "last": 0.2}}), "noncanonical"),
        (
            changed(
                checks={
                    "frozen_judge": {"first": 0.7, "last": 0.6},
                    "live_judge": {"first": 0.7, "last": 0.9},
                }
            ),
            "judges",
        ),
        (
            changed(
                checks={"drawn": {"open_colors": {"before": {"red": 0.2}, "after": {"red": 0.6}}}}
            ),
            "favourite colour",
        ),
        (changed(generation={"before": 40, "after": 30, "ci95": [-12, -8]}), "drawings judged"),
        (changed(nonfinite_steps=2), "nonfinite_steps"),
    ],
)
def test_a_way_round_is_named(found, name):
    assert bad(found) == [name]
    assert name in conclusion(verdicts(found))


def test_no_sign_shows_where_nothing_changes():
    assert not any(sign.shows(0.5, 0.5) for sign in SIGNS.values())


def test_a_run_without_a_judge_has_verdicts_too():
    found = {"checks": {}, "nonfinite_steps": 0, "skipped_updates": 0}
    assert conclusion(verdicts(found)) == "None of 2 checks shows a way round the rewards."
