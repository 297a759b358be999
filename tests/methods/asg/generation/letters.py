"""A model that is only spoken to: its tokens are letters."""

from typing import Any

from asg_jax.engine.model import UnifiedModel
from asg_jax.engine.programs import Lengths

LENGTHS = Lengths(300, 99, 300, 999)


class Letters:
    """A processor that writes a text as its characters."""

    stop_ids = (0,)

    def question(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def text(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def lettered() -> UnifiedModel:
    """A model without a backbone."""
    processor: Any = Letters()
    backbone: Any = None
    return UnifiedModel(backbone, None, processor, {})
