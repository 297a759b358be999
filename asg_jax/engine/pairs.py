"""Two pictures at once: which of them shows a prompt better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image as Pillow

from asg_jax.backbone import Params, Request, Sampler
from asg_jax.engine.engine import Engine, Moment
from asg_jax.engine.method import Examples

Pixels = UInt8[np.ndarray, "B H W 3"]


def draw_one(
    engine: Engine,
    params: Params,
    sampler: Sampler,
    prompts: Sequence[str | None],
    examples: Examples,
    purpose: int,
) -> Pixels:
    """A drawing of each prompt, on the host; equal purposes give equal noise."""
    order = engine.order([prompt or "" for prompt in prompts], examples, purpose)
    return engine.placement.get(engine.draw(params, sampler, 1, order).pictures)[:, 0]


def pair_request(engine: Engine, first: Pixels, second: Pixels) -> Request:
    """Pictures two by two, as a request that texts will follow; on devices."""
    pictures = [
        [Pillow.fromarray(one), Pillow.fromarray(other)]
        for one, other in zip(first, second, strict=True)
    ]
    return engine.placement.put(engine.model.processor.prompt(pictures, "ask"))


def pair_moment(
    engine: Engine, examples: Examples, right: Pixels, wrong: Pixels, second: Any
) -> Moment:
    """A step whose examples are pairs of pictures.

    Args:
      engine: the model at work.
      examples: what the step works on.
      right: one picture of each pair.
      wrong: the other.
      second: whether the right one comes second, (B,).
    """
    swap = lambda a, b: np.where(second[:, None, None, None], b, a)
    request = pair_request(engine, swap(right, wrong), swap(wrong, right))
    return Moment(examples, request, request)


def prefers_first(
    engine: Engine, params: Params, prompts: Sequence[str], first: Pixels, second: Pixels
) -> Float[Array, " B"]:
    """Probability that the first picture shows its prompt better than the second.

    Both orders are asked for, so that a liking of either place cancels out.
    """
    question, sides = engine.language.compare, engine.language.sides
    orders = (sides, (first, second)), (sides[::-1], (second, first))
    found = []
    for (right, wrong), pair in orders:
        rows = [[(question.format(caption=text), (right,), (wrong,))] for text in prompts]
        poll = engine.placement.put(engine.scribe.poll(rows, engine.scribe.about))
        asked = engine.ask_pictures(params, pair_request(engine, *pair), poll)
        found.append(asked.preference[:, 0])
    return (found[0] + found[1]) / 2
