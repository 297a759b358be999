"""The schedule of the two loops."""

from asg_jax.objectives.schedule import phase


def test_three_then_two():
    letters = "".join(phase(step)[0] for step in range(1, 12))
    assert letters == "uuugguuuggu"


def test_one_loop_alone():
    assert {phase(step, 1, 0) for step in range(1, 9)} == {"understanding"}
    assert {phase(step, 0, 1) for step in range(1, 9)} == {"generation"}
