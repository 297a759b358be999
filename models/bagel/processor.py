"""The host side of BAGEL: conversations and pictures to arrays.

Every text turn is `<|im_start|>` text `<|im_end|>`, whoever speaks, without roles or newlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float
from PIL.Image import Image as Picture
from PIL.Image import Resampling

from asg_jax.backbone import Image, Prompts, Purpose, Request, host
from asg_jax.models.bagel.config import BagelConfig, Resize, SpecialTokens
from asg_jax.models.bagel.layout import Latent, Segment, Text, View, layout
from asg_jax.models.batches import columns, patch_batch
from asg_jax.models.pictures import to_array, to_rgb
from asg_jax.models.tokenizers import Tokenizer, load_tokenizer

BOS, EOS = "<|im_start|>", "<|im_end|>"
IMAGE_START, IMAGE_END = "<|vision_start|>", "<|vision_end|>"


def resized(width: int, height: int, rule: Resize, pictures: int = 1) -> tuple[int, int]:
    """Size (width, height) that the resize rule gives a picture.

    Sides are rounded half to even, twice: to pixels, then to the stride. A picture with too many
    pixels is shrunk by the ratio of the areas, as the official code does, not by its root.

    Args:
      width: pixels across.
      height: pixels from top to bottom.
      rule: bounds and stride.
      pictures: number of pictures that share the bound on pixels.
    """

    def apply(sides: tuple[int, int], scale: float) -> tuple[int, int]:
        stride = rule.stride
        new = [max(round(round(side * scale) / stride) * stride, stride) for side in sides]
        return new[0], new[1]

    scale = min(rule.max_size / max(width, height), 1.0)
    scale = max(scale, rule.min_size / min(width, height))
    size = apply((width, height), scale)
    allowed = rule.max_pixels / pictures
    if size[0] * size[1] > allowed:
        size = apply(size, allowed / (size[0] * size[1]))
    if max(size) > rule.max_size:
        size = apply(size, rule.max_size / max(size))
    return size


def resize(picture: Picture, rule: Resize) -> Picture:
    """RGB picture after the resize rule (bicubic on 8-bit values)."""
    picture = to_rgb(picture)
    return picture.resize(resized(*picture.size, rule), Resampling.BICUBIC)


def patches(
    pixels: Float[Array | np.ndarray, "*batch H W 3"], side: int
) -> Float[Array | np.ndarray, "*batch N P"]:
    """Values in [0, 1] to normalised patches, row-major, each (row, column, channel)."""
    normalised = (pixels - 0.5) / 0.5
    return rearrange(normalised, "... (h p) (w q) c -> ... (h w) (p q c)", p=side, q=side)


def specials(tokens: SpecialTokens) -> dict[str, int]:
    """The marker strings and their ids."""
    return {
        BOS: tokens.bos,
        EOS: tokens.eos,
        IMAGE_START: tokens.image_start,
        IMAGE_END: tokens.image_end,
    }


@dataclass(frozen=True)
class BagelProcessor:
    """Implements `asg_jax.backbone.Processor`."""

    config: BagelConfig
    tokenizer: Tokenizer

    @classmethod
    def load(cls, folder: Path, config: BagelConfig) -> BagelProcessor:
        """The processor of a checkpoint folder; see `load_tokenizer` for errors."""
        return cls(config, load_tokenizer(folder, specials(config.tokens)))

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return (self.config.tokens.eos,)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def text(self, ids: Sequence[int]) -> str:
        tokens, ids = self.config.tokens, list(ids)
        markers = set(specials(tokens).values())
        if tokens.eos in ids:
            ids = ids[: ids.index(tokens.eos)]
        if tokens.bos in ids:
            ids = ids[len(ids) - ids[::-1].index(tokens.bos) :]
        return self.tokenizer.decode([n for n in ids if n not in markers])

    def turn(self, text: str) -> list[int]:
        """Ids of one text turn with its markers."""
        return [self.config.tokens.bos, *self.ids(text), self.config.tokens.eos]

    def question(self, text: str) -> list[int]:
        return [*self.turn(text), self.config.tokens.bos]

    def prompt(self, turns: Sequence[Sequence[str | Picture]], purpose: Purpose) -> Request:
        """A batch of conversations; see `asg_jax.backbone.Processor`.

        A picture to `draw` from (editing) enters twice, as latents and as a view of the resized
        picture; there may be one in each conversation, all of one size after resizing.

        Raises:
          ValueError: pictures to edit differ in number or size.
        """
        pictures = [[t for t in turn if not isinstance(t, str)] for turn in turns]
        sources = None
        if purpose == "draw" and any(pictures):
            pictures = [[resize(p, self.config.latent_resize) for p in row] for row in pictures]
            sources = _same_size(pictures)
        images = columns(pictures, self.image)
        views = [image.patches.shape[1] for image in images]
        conversations = [
            self._segments(turn, n, images, views, purpose) for n, turn in enumerate(turns)
        ]
        make = lambda conversations: layout(conversations, self.config)
        if purpose != "draw":
            return Request(Prompts(make(conversations)), images)
        without_text = [_before_last_text(segments) for segments in conversations]
        without_image = [[s for s in row if isinstance(s, Text)] for row in conversations]
        prompts = Prompts(
            main=make(conversations),
            no_text=make(without_text) if any(without_text) else None,
            no_image=make(without_image) if images else None,
        )
        return Request(prompts, images, None if sources is None else host(sources))

    def image(self, pictures: Sequence[Picture]) -> Image:
        rule, side = self.config.vision_resize, self.config.vision.patch
        arrays = [to_array(resize(picture, rule)) for picture in pictures]
        return patch_batch(arrays, side, partial(patches, side=side))

    def view(self, pixels: Float[Array, "B H W 3"]) -> Image:
        """See `asg_jax.backbone.Processor`; sides must be multiples of the patch size."""
        batch, height, width, _ = pixels.shape
        side = self.config.vision.patch
        rows = jnp.asarray(patches(jnp.floor(jnp.clip(pixels, 0, 1) * 255) / 255, side))
        grid = jnp.broadcast_to(jnp.array([height // side, width // side]), (batch, 2))
        return Image(rows, grid, jnp.ones(rows.shape[:2], bool))

    def _segments(
        self, turn: Sequence[str | Picture], n: int, images, views: list[int], purpose: Purpose
    ) -> list[Segment]:
        segments: list[Segment] = []
        seen = 0
        for item in turn:
            if isinstance(item, str):
                segments.append(Text(self.turn(item)))
                continue
            if purpose == "draw":
                width, height = resized(*item.size, self.config.latent_resize)
                side = self.config.token_pixels
                segments.append(Latent((height // side, width // side), sum(views)))
            height, width = images[seen].grid[n].tolist()
            segments.append(View((height, width), sum(views[:seen])))
            seen += 1
        if purpose == "answer":
            segments.append(Text([self.config.tokens.bos]))  # the turn that the model goes on with
        return segments


def _before_last_text(segments: list[Segment]) -> list[Segment]:
    texts = [n for n, segment in enumerate(segments) if isinstance(segment, Text)]
    return segments[: texts[-1]] if texts else segments


def _same_size(pictures: list[list[Picture]]) -> Float[np.ndarray, "B H W 3"]:
    if {len(row) for row in pictures} != {1} or len({row[0].size for row in pictures}) != 1:
        raise ValueError(
            "a batch of edits needs exactly one picture in each conversation, all of one size "
            "after resizing; sort the pictures by size or edit them one by one"
        )
    return np.stack([to_array(row[0]) for row in pictures])
