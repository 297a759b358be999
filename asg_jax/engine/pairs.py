"""Two pictures at once: which of them shows a prompt better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image as Pillow

from asg_jax.backbone import Params, Request
from asg_jax.engine.engine import Engine, Moment
from asg_jax.engine.method import Examples

Pixels = UInt8[np.ndarray, "B H W 3"]


def pair_request(engine: Engine, first: Pixels, second: Pixels) -> Request:
    """Pictures two by two, as a request that texts will follow; on devices."""
    pictures = [
        [Pillow.fromarray(one), Pillow.fromarray(other)]
        for one, other in zip(first, second, strict=True)
    ]
    return engine.placement.put(engine.model.processor.prompt(pictures, "ask"))


def pair_moment(engine: Engine, examples: Examples, first: Pixels, second: Pixels) -> Moment:
    """A step whose examples are pairs of pictures."""
    request = pair_request(engine, first, second)
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
