"""A backbone of a few numbers, whose random parts all use their keys.

It implements `asg_jax.backbone.Backbone` with one line for each concept, so that what is built on
it can be computed by hand. Its adapter covers `text` and `picture`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from asg_jax.backbone import (
    Bits,
    BitsTrace,
    Cache,
    Flow,
    Image,
    LoRA,
    Params,
    Prefix,
    Prompt,
    Prompts,
    Request,
    Sampler,
    Spec,
    State,
    Target,
)
from asg_jax.ops.bits import bit_log_probs
from asg_jax.ops.flow import flow_step, start_noise, start_trace, step_times
from asg_jax.ops.masked import masked_mean

V, D, C, L = 7, 4, 2, 6  # vocabulary, width, channels, tokens of a picture
GRID = (2, 3)
ROWS = GRID[0] * GRID[1]  # of a picture in a prompt: one for each pixel


@dataclass(frozen=True)
class Toy:
    """Texts: a map of the token before, and what was seen. Pictures: a map of x, or of 1."""

    kind: Any = "flow"

    @property
    def spec(self) -> Any:
        return Spec(self.kind, 1, False, 1, C, GRID, 1, V)

    def kernel(self, params: Params, name: str):
        lora = (params.adapter or {}).get(name)
        kernel = params.base[name]["kernel"]
        return kernel if lora is None else kernel + lora.scale * lora.a @ lora.b

    def state(self, params: Params, token: Array):
        return params.base["table"][token] @ self.kernel(params, "text")

    def states(self, params: Params, prompt: Prompt):
        return self.state(params, prompt.ids) + seen(prompt)[:, None]

    def prefill(self, params: Params, prompt: Prompt):
        sight = seen(prompt)
        rows = sight[None, :, None, None]
        hidden = self.state(params, last(prompt)[:, 0]) + sight
        return Prefix(rows, rows, prompt.mask, prompt.positions[:, -1, 0] + 1, hidden)

    def extend(self, params: Params, ids: Array, mask: Array, prefix: Prefix, room: int):
        sight = prefix.keys[0, :, 0]
        end = jnp.maximum(mask.sum(-1) - 1, 0)[..., None]
        after = self.state(params, jnp.take_along_axis(ids, end, axis=-1)[..., 0]) + sight
        hidden = jnp.where(mask.any(-1)[..., None], after, prefix.hidden[:, None])
        position = prefix.position[:, None] + mask.sum(-1)
        return hidden, Cache(prefix, sight, sight, mask, position, jnp.int32(0))

    def decode(self, params: Params, token: Array, cache: Cache):
        return self.state(params, token) + cache.keys, cache

    def hidden(self, params: Params, prompt: Prompt, ids: Array, mask: Array):
        first = jnp.broadcast_to(last(prompt)[:, None], (*ids.shape[:2], 1))
        before = jnp.concatenate([first, ids], axis=-1)[..., : ids.shape[-1]]
        return self.state(params, before) + seen(prompt)[:, None, None]

    def unembedding(self, params: Params):
        return params.base["table"]

    def condition(self, params: Params, prompts: Prompts, keys: Array):
        mean = params.base["table"][prompts.main.ids].mean(1)[:, :C]
        return mean + jax.vmap(lambda key: jax.random.normal(key, (C,)))(keys)

    def velocity(self, params: Params, condition: Array, x: Array, t: Array, grid: tuple[int, int]):
        moved = x @ self.kernel(params, "picture")
        return moved + condition[:, None, None] * t[..., None, None]

    def logits(self, params: Params, condition: Array, shape: tuple[int, ...]):
        rows = condition @ self.kernel(params, "picture")
        rows = jnp.stack([rows, -rows], axis=-1)[:, None, None]
        return jnp.broadcast_to(rows, (*shape, 2))

    def terms(
        self, params: Params, condition: Array, target: Target, draw: Any, sampler: Any = None
    ):
        if self.kind == "bits":
            logits = self.logits(params, condition, target.values.shape)
            return Bits(logits, target.values)
        t = draw.t[..., None, None]
        noisy = (1 - t) * target.values + t * draw.noise
        moved = self.velocity(params, condition, noisy, draw.t, target.grid)
        return Flow(moved, draw.noise - target.values)

    def start(self, params: Params, condition: Array, keys: Array, sampler: Sampler):
        if self.kind == "bits":
            zeros = jnp.zeros((*keys.shape, L, C), jnp.int32)
            return State(None, keys, BitsTrace(zeros, zeros.astype(jnp.float32)))
        x = start_noise(keys, L, C)
        return State(x, keys, start_trace(x, sampler))

    def step(self, params: Params, condition: Array, state: Any, i: Any, sampler: Sampler):
        if self.kind == "bits":
            logits = self.logits(params, condition, (*state.keys.shape, L, C))
            draw = lambda key, x: jax.random.categorical(jax.random.fold_in(key, i), x)
            bits = jax.vmap(jax.vmap(draw))(state.keys, logits)
            return replace(state, trace=BitsTrace(bits, bit_log_probs(logits, bits)))
        times = jnp.full(state.keys.shape, step_times(sampler, i).t)
        velocity = self.velocity(params, condition, state.inner, times, sampler.grid)
        x, trace = flow_step(state.inner, velocity, state, i, sampler)
        return State(x, state.keys, trace)

    def preview(self, params: Params, condition: Array, state: Any, sampler: Sampler):
        values = state.trace.bits if self.kind == "bits" else state.inner
        return Target(values, sampler.grid)

    def pixels(self, params: Params, condition: Array, target: Target, keys: Array):
        draw = lambda key: jax.random.uniform(key, (*GRID, 3))
        return jax.vmap(jax.vmap(draw))(keys)

    def encode_image(self, params: Params, image: Image):
        return image.patches @ params.base["vision"]

    def encode_target(self, params: Params, pixels: Any, key: Any):
        return Target(pixels.reshape(len(pixels), 1, -1, 3)[..., :C], pixels.shape[1:3])

    def encode_latents(self, params: Params, target: Target):
        return target.values[:, 0] @ params.base["vision"][:C]


def last(prompt: Prompt):
    """The last real token of every prompt, (B, 1)."""
    return jnp.take_along_axis(prompt.ids, prompt.mask.sum(-1, keepdims=True) - 1, axis=1)


def seen(prompt: Prompt):
    """What a prompt shows: the mean of its features, those that stand in a row."""
    if prompt.features is None:
        return jnp.zeros((len(prompt.ids), D))
    rows = jnp.take_along_axis(prompt.features, jnp.maximum(prompt.slot, 0)[..., None], axis=1)
    return masked_mean(rows, (prompt.slot >= 0)[..., None], axis=1)


WORDS = (
    "<end>",
    "what color is the circle?",
    "is there a red cross?",
    "a red circle",
    "two crosses",
)


class ToyProcessor:
    """The processor of the toy: a text is one of `WORDS`, which are its tokens."""

    stop_ids = (0,)

    def prompt(self, turns: Sequence[Sequence[Any]], purpose: str):
        """Every turn is a token; a picture, two rows of features."""
        shown = [[item for item in turn if not isinstance(item, str)] for turn in turns]
        count = ROWS if any(shown) else 0
        told = [self.ids(" ".join(t for t in turn if isinstance(t, str))) for turn in turns]
        room = count + max(map(len, told)) + 1
        ids, slot = np.zeros((2, len(turns), room), np.int32)
        slot[:] = np.where(np.arange(room) < count, np.arange(room), -1)
        for row, own in zip(ids, told, strict=True):
            row[count : count + len(own) + 1] = [*own, V - 1]
        mask = np.arange(room) < count + 1 + np.array([len(own) for own in told])[:, None]
        rows = np.broadcast_to(np.arange(room), ids.shape)
        place = jnp.asarray(rows)
        main = Prompt(
            jnp.asarray(ids), jnp.asarray(slot), place[..., None], place, jnp.asarray(mask)
        )
        images = (self.image([own[0] for own in shown]),) if count else ()
        return Request(Prompts(main), images)

    def question(self, text: str):
        return [V - 1, *self.ids(text), V - 1]

    def ids(self, text: str):
        return [WORDS.index(text)] if text else []

    def text(self, ids: Sequence[int]):
        ids = list(ids)
        ended = ids[: ids.index(0)] if 0 in ids else ids
        return " ".join(WORDS[n] for n in ended if n < len(WORDS))

    def image(self, pictures: Sequence[Any]):
        return self.view(jnp.stack([np.asarray(picture) / np.float32(255) for picture in pictures]))

    def view(self, pixels: Any):
        patches = pixels.reshape(len(pixels), -1, 3)
        grid = jnp.broadcast_to(jnp.array(pixels.shape[1:3]), (len(pixels), 2))
        return Image(patches, grid, jnp.ones(patches.shape[:2], bool))


def base(seed: int = 0) -> dict:
    """Parameters that are frozen."""
    normal = lambda n, *shape: 0.5 * jax.random.normal(jax.random.key(seed + n), shape)
    kernels = {"text": normal(1, D, D), "picture": normal(2, C, C)}
    rest = {"table": normal(0, V, D), "vision": 3 * normal(3, 3, D)}
    return rest | {n: {"kernel": kernel} for n, kernel in kernels.items()}


def adapter(seed: int = 0, size: float = 0.4) -> dict[str, LoRA]:
    """Factors that change something."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(0, size, shape), jnp.float32)
    return {
        name: LoRA(normal(width, 1), normal(1, width), 2.0)
        for name, width in (("text", D), ("picture", C))
    }


def request(batch: int, length: int = 3, seed: int = 0) -> Request:
    """Prompts of a few tokens."""
    ids = jnp.asarray(np.random.default_rng(seed).integers(0, V, (batch, length)))
    rows = jnp.broadcast_to(jnp.arange(length), ids.shape)
    main = Prompt(ids, jnp.full(ids.shape, -1), rows[..., None], rows, jnp.ones(ids.shape, bool))
    return Request(Prompts(main))
