"""The host side of VARGPT-v1.1: conversations in the chat format of Qwen2-VL, pictures as patches.

A conversation is one user message (pictures and texts in their order) after an optional system
message, and the header of the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jaxtyping import Array, Float
from PIL.Image import Image as Picture
from PIL.Image import Resampling

from asg_jax.backbone import Image, Prompts, Purpose, Request
from asg_jax.errors import UserError
from asg_jax.models.batches import columns, patch_batch
from asg_jax.models.pictures import to_array, to_rgb
from asg_jax.models.tokenizers import Tokenizer, load_tokenizer
from asg_jax.models.vargpt.config import Pixels, SpecialTokens, VargptConfig
from asg_jax.models.vargpt.layout import Segment, Text, View, layout
from asg_jax.models.vargpt.vision import VisionConfig

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # of CLIP
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def resized(height: int, width: int, side: int, bounds: Pixels) -> tuple[int, int]:
    """Size (height, width) that the tower reads a picture in: multiples of `side`.

    Sides are rounded half to even; a picture that is then too large or too small is scaled from
    its first size, rounded towards the bound.

    Raises:
      UserError: a side is shorter than `side`, or one is over 200 times as long as the other.
    """
    if min(height, width) < side or max(height, width) > 200 * min(height, width):
        raise UserError(
            f"a picture of {width} x {height} pixels is too small or too narrow; both sides need "
            f"{side} pixels at least and the ratio may be 200 at most."
        )
    rounded = round(height / side) * side, round(width / side) * side
    if math.prod(rounded) > bounds.most:
        beta = math.sqrt(height * width / bounds.most)
        shrunk = lambda n: math.floor(n / beta / side) * side
        return shrunk(height), shrunk(width)
    if math.prod(rounded) < bounds.least:
        beta = math.sqrt(bounds.least / (height * width))
        enlarged = lambda n: math.ceil(n * beta / side) * side
        return enlarged(height), enlarged(width)
    return rounded


def patches(
    pixels: Float[Array | np.ndarray, "*batch H W 3"], config: VisionConfig
) -> Float[Array | np.ndarray, "*batch N P"]:
    """Values in [0, 1] to normalised patches, each (channel, frame, row, column).

    Patches that the tower merges follow each other; all frames are the same picture.
    """
    cut = rearrange(
        (pixels - MEAN) / STD,
        "... (h m p) (w n q) c -> ... (h w m n) c p q",
        m=config.merge,
        n=config.merge,
        p=config.patch,
        q=config.patch,
    )
    still = repeat(cut, "... c p q -> ... c frames p q", frames=config.frames)
    return still.reshape(*still.shape[:-4], -1)


def specials(tokens: SpecialTokens) -> dict[str, int]:
    """The marker strings and their ids."""
    return {
        "<|endoftext|>": tokens.pad,
        TURN_START: tokens.turn_start,
        TURN_END: tokens.turn_end,
        "<|vision_start|>": tokens.vision_start,
        "<|vision_end|>": tokens.vision_end,
        "<|image_pad|>": tokens.picture,
        "<|image_gen_start|>": tokens.draw_start,
        "<|image_gen_end|>": tokens.draw_end,
        "<|image_gen_pad|>": tokens.draw_pad,
    }


@dataclass(frozen=True)
class VargptProcessor:
    """Implements `asg_jax.backbone.Processor`."""

    config: VargptConfig
    tokenizer: Tokenizer

    @classmethod
    def load(cls, folder: Path, config: VargptConfig) -> VargptProcessor:
        """The processor of a checkpoint folder; see `load_tokenizer` for errors."""
        return cls(config, load_tokenizer(folder, specials(config.tokens)))

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return self.config.tokens.turn_end, self.config.tokens.pad

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def text(self, ids: Sequence[int]) -> str:
        tokens, markers = self.config.tokens, set(specials(self.config.tokens).values())
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

        A conversation without turns is an absent prompt if it is to `draw`. Turns to `embed` stand
        between two markers, without roles.
        """
        pictures = [[t for t in turn if not isinstance(t, str)] for turn in turns]
        images = columns(pictures, self.image)
        merged = self.config.vision.merge**2
        views = [image.patches.shape[1] // merged for image in images]
        conversations = [
            self._segments(turn, n, images, views, purpose) for n, turn in enumerate(turns)
        ]
        return Request(Prompts(layout(conversations)), images)

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
        """See `asg_jax.backbone.Processor`; resized on 8-bit values as Pillow shrinks a picture."""
        vision = self.config.vision
        batch, *size = pixels.shape[:3]
        height, width = resized(size[0], size[1], vision.patch * vision.merge, self.config.pixels)
        levels = jnp.floor(jnp.clip(pixels, 0, 1) * 255)
        for shape in ((batch, size[0], width, 3), (batch, height, width, 3)):
            if shape != levels.shape:
                levels = jnp.clip(jnp.round(jax.image.resize(levels, shape, "cubic")), 0, 255)
        rows = jnp.asarray(patches(levels / 255, vision))
        grid = jnp.array([height // vision.patch, width // vision.patch])
        return Image(rows, jnp.broadcast_to(grid, (batch, 2)), jnp.ones(rows.shape[:2], bool))

    def _segments(
        self,
        turn: Sequence[str | Picture],
        n: int,
        images: Sequence[Image],
        views: list[int],
        purpose: Purpose,
    ) -> list[Segment]:
        tokens, merge = self.config.tokens, self.config.vision.merge
        if purpose == "draw" and not turn:
            return []
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
        if purpose == "embed":
            return [Text([tokens.turn_start]), *content, Text([tokens.turn_end])]
        opening = Text(self.ids(f"{self._system()}{TURN_START}user\n"))
        if purpose == "ask":
            return [opening, *content]
        closing = self.question("") + [tokens.draw_start] * (purpose == "draw")
        return [opening, *content, Text(closing)]

    def _system(self) -> str:
        system = self.config.system
        return f"{TURN_START}system\n{system}{TURN_END}\n" if system else ""
