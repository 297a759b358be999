"""The host side of BLIP3o: Qwen's chat format, with a request before the caption of a picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image as Picture

from asg_jax.backbone import Image, Prompts, Purpose, Request
from asg_jax.models.layers.qwen.layout import Segment, Text, layout
from asg_jax.models.layers.qwen.processor import QwenProcessor

BLANK = " "  # what guidance of the pixels compares with, without markers


class Blip3oProcessor(QwenProcessor):
    """Implements `asg_jax.backbone.Processor`.

    A conversation without turns is an absent prompt if it is to `draw`.
    """

    def prompt(self, turns: Sequence[Sequence[str | Picture]], purpose: Purpose) -> Request:
        """A batch of conversations; see `asg_jax.backbone.Processor`.

        Rows of a picture that one is to `draw` from count one after another on every axis, as in
        the official code.
        """
        conversations, images = self.conversations(turns, purpose)
        if purpose != "draw":
            return Request(Prompts(layout(conversations)), images)
        blank = [Text([*self.ids(BLANK), self.config.tokens.draw_start])]
        main = layout(conversations, plain=True)
        # One row each, so that a batch can be cut anywhere.
        negative = layout([blank] * len(conversations), plain=True)
        return Request(Prompts(main, negative=negative), images)

    def segments(
        self,
        turn: Sequence[str | Picture],
        n: int,
        images: Sequence[Image],
        views: list[int],
        purpose: Purpose,
    ) -> list[Segment]:
        if purpose != "draw":
            return super().segments(turn, n, images, views, purpose)
        if not turn:
            return []
        captioned = [self.config.request, *turn] if self.config.request else turn
        segments = super().segments(captioned, n, images, views, purpose)
        return [*segments, Text([self.config.tokens.draw_start])]
