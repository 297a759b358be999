"""The host side: conversations in Qwen's chat format, pictures as patches.

A conversation is one user message (pictures and texts in their order) after an optional system
message, and the header of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float
from PIL.Image import Image as Picture
from PIL.Image import Resampling

from asg_jax.backbone import Image, Prompts, Purpose, Request
from asg_jax.models.batches import columns, patch_batch
from asg_jax.models.layers.qwen.config import TURN_END, TURN_START
from asg_jax.models.layers.qwen.layout import Segment, Text, View, layout
from asg_jax.models.layers.qwen.pictures import patches, resized
from asg_jax.models.layers.resample import bicubic
from asg_jax.models.pictures import to_array, to_rgb
from asg_jax.models.tokenizers import Tokenizer, load_tokenizer

P = TypeVar("P", bound="QwenProcessor")


@dataclass(frozen=True)
class QwenProcessor:
    """Implements `asg_jax.backbone.Processor`, but for what only drawing needs.

    Attributes:
      config: sizes of the network, with the parts `tokens`, `vision` and `pixels`, and `system`,
        the message that opens every conversation, if not empty.
      tokenizer: text to ids and back.
    """

    config: Any
    tokenizer: Tokenizer

    @classmethod
    def load(cls: type[P], folder: Path, config: Any) -> P:
        """The processor of a checkpoint folder; see `load_tokenizer` for errors."""
        return cls(config, load_tokenizer(folder, config.tokens.specials()))

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return self.config.tokens.turn_end, self.config.tokens.pad

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def text(self, ids: Sequence[int]) -> str:
        tokens, markers = self.config.tokens, set(self.config.tokens.specials().values())
        ids = list(ids)
        ends = [n for n, token in enumerate(ids) if token in self.stop_ids]
        ids = ids[: ends[0]] if ends else ids
        if tokens.turn_start in ids:
            ids = ids[len(ids) - ids[::-1].index(tokens.turn_start) :]
        return self.tokenizer.decode([n for n in ids if n not in markers])

    def question(self, text: str) -> list[int]:
        return self.ids(f"{text}{TURN_END}\n{TURN_START}assistant\n")

    def prompt(self, turns: Sequence[Sequence[str | Picture]], purpose: Purpose) -> Request:
        """A batch of conversations; see `asg_jax.backbone.Processor`.

        Turns to `embed` stand between two markers, without roles.
        """
        conversations, images = self.conversations(turns, purpose)
        return Request(Prompts(layout(conversations)), images)

    def conversations(
        self, turns: Sequence[Sequence[str | Picture]], purpose: Purpose
    ) -> tuple[list[list[Segment]], tuple[Image, ...]]:
        """The segments of every conversation, and the pictures that they show."""
        pictures = [[t for t in turn if not isinstance(t, str)] for turn in turns]
        images = columns(pictures, self.image)
        merged = self.config.vision.merge**2
        views = [image.patches.shape[1] // merged for image in images]
        rows = [self.segments(turn, n, images, views, purpose) for n, turn in enumerate(turns)]
        return rows, images

    def image(self, pictures: Sequence[Picture]) -> Image:
        vision, bounds = self.config.vision, self.config.pixels
        arrays = []
        for picture in map(to_rgb, pictures):
            height, width = resized(
                picture.height, picture.width, vision.patch * vision.merge, bounds
            )
            arrays.append(to_array(picture.resize((width, height), Resampling.BICUBIC)))
        return patch_batch(arrays, vision.patch, partial(patches, config=vision))

    def view(self, pixels: Float[Array, "B H W 3"]) -> Image:
        """See `asg_jax.backbone.Processor`; resized as `image` does."""
        vision = self.config.vision
        batch, *size = pixels.shape[:3]
        height, width = resized(size[0], size[1], vision.patch * vision.merge, self.config.pixels)
        levels = jnp.floor(jnp.clip(pixels, 0, 1) * 255).astype(jnp.int32)
        rows = jnp.asarray(patches(bicubic(levels, (height, width)) / 255, vision))
        grid = jnp.array([height // vision.patch, width // vision.patch])
        return Image(rows, jnp.broadcast_to(grid, (batch, 2)), jnp.ones(rows.shape[:2], bool))

    def segments(
        self,
        turn: Sequence[str | Picture],
        n: int,
        images: Sequence[Image],
        views: list[int],
        purpose: Purpose,
    ) -> list[Segment]:
        """One conversation, row `n` of the images; `views` counts the rows that each image has."""
        tokens, content = self.config.tokens, self._content(turn, n, images, views)
        if purpose == "embed":
            return [Text([tokens.turn_start]), *content, Text([tokens.turn_end])]
        opening = Text(self.ids(f"{self._system()}{TURN_START}user\n"))
        if purpose == "ask":
            return [opening, *content]
        return [opening, *content, Text(self.question(""))]

    def _content(
        self, turn: Sequence[str | Picture], n: int, images: Sequence[Image], views: list[int]
    ) -> list[Segment]:
        tokens, merge = self.config.tokens, self.config.vision.merge
        content: list[Segment] = []
        seen = 0
        for item in turn:
            if isinstance(item, str):
                content.append(Text(self.ids(item)))
                continue
            height, width = (images[seen].grid[n] // merge).tolist()
            content.append(Text([tokens.vision_start]))
            content.append(View((height, width), sum(views[:seen]), tokens.picture))
            content.append(Text([tokens.vision_end]))
            seen += 1
        return content

    def _system(self) -> str:
        system = self.config.system
        return f"{TURN_START}system\n{system}{TURN_END}\n" if system else ""
