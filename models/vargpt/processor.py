"""The host side of VARGPT-v1.1: Qwen's chat format, and the marker that starts a picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image as Picture

from asg_jax.backbone import Image, Purpose
from asg_jax.models.layers.qwen.layout import Segment, Text
from asg_jax.models.layers.qwen.processor import QwenProcessor


class VargptProcessor(QwenProcessor):
    """Implements `asg_jax.backbone.Processor`.

    A conversation without turns is an absent prompt if it is to `draw`.
    """

    def segments(
        self,
        turn: Sequence[str | Picture],
        n: int,
        images: Sequence[Image],
        views: list[int],
        purpose: Purpose,
    ) -> list[Segment]:
        if purpose == "draw" and not turn:
            return []
        segments = super().segments(turn, n, images, views, purpose)
        return [*segments, Text([self.config.tokens.draw_start])] if purpose == "draw" else segments
