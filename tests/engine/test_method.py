"""The cycle of phases."""

from asg_jax.engine.method import Phase, phase_of


def names(understanding: int, generation: int, steps: int) -> str:
    """First letters of the phases of the first steps."""
    phases = [
        Phase("understanding", understanding, "understanding"),
        Phase("generation", generation, "generation"),
    ]
    return "".join(phase_of(step, phases).name[0] for step in range(1, steps + 1))


def test_three_then_two():
    assert names(3, 2, 11) == "uuugguuuggu"


def test_a_phase_without_steps_is_left_out():
    assert names(1, 0, 4) == "uuuu" and names(0, 1, 4) == "gggg"
