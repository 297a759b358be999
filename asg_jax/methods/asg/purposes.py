"""What the random numbers of an example are for."""

from enum import IntEnum


class Purpose(IntEnum):
    """Folded into every key, so that no two uses share one."""

    ASK, SOLVE, JUDGE, DESCRIBE, REFER, DRAW, EXAMINE, LEARN, SPEC = range(9)
