"""Which of the two loops a step belongs to."""

from typing import Literal


def phase(
    step: int, understanding_steps: int = 3, generation_steps: int = 2
) -> Literal["understanding", "generation"]:
    """The loop of a step, counted from 1; a cycle starts with its understanding steps.

    (Ask, Solve, Generate, arXiv 2606.27376: three understanding steps, two generation steps.)
    """
    place = (step - 1) % (understanding_steps + generation_steps)
    return "understanding" if place < understanding_steps else "generation"
