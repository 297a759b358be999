"""Pictures of prompts, for the command line and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, UInt8

from asg_jax.backbone import Params, Request, Sampler, Spec, to_uint8
from asg_jax.errors import UserError
from asg_jax.models.registry import Model
from asg_jax.rollout.image import draw_pictures
from asg_jax.train.compiler import jit

# Options of sampling by kind of model (`Spec.kind`), with the official defaults; None is the
# model's own number. (Two values leave a top-k nothing to choose.)
OPTIONS: dict[str, dict[str, Any]] = {
    "flow": {"steps": None, "guidance": 4.0, "image_guidance": 2.0},
    "bits": {"guidance": 3.0, "temperature": 0.5, "top_p": 0.97},
}
SIZE = ("height", "width")
GIVEN = (*SIZE, *sorted(set().union(*OPTIONS.values())))  # all that may be chosen

draw_jitted = jit(draw_pictures, static_argnums=(0, 4))


def draw(
    model: Model,
    params: Params,
    request: Request,
    keys: Key[Array, "B G"],
    given: Mapping[str, Any],
) -> UInt8[np.ndarray, "B G H W 3"]:
    """G pictures of each of B prompts.

    Args:
      model: what draws.
      params: parameters that the drawing role has.
      request: the prompts, and pictures to edit if there are any.
      keys: one for every picture.
      given: see `make_sampler`.
    """
    sampler = make_sampler(model.backbone.spec, request, given)
    return np.asarray(to_uint8(draw_jitted(model.backbone, params, request, keys, sampler)))


def make_sampler(spec: Spec, request: Request, given: Mapping[str, Any]) -> Sampler:
    """Settings of a request: an edit keeps the size of its picture.

    Args:
      spec: what the model says of itself.
      request: what is drawn.
      given: some of `GIVEN`, height and width in pixels; None is the usual value.

    Raises:
      UserError: an option belongs to another kind of model, or no picture has that size.
    """
    chosen = _options(spec.kind, given)
    side, usual = spec.token_pixels, spec.max_grid
    editing = request.sources is not None
    if request.sources is not None:
        height, width = request.sources.shape[1:3]
    else:
        sizes = zip(SIZE, usual, strict=True)
        height, width = (given.get(name) or n * side for name, n in sizes)
    grid = height // side, width // side
    if (grid[0] * side, grid[1] * side) != (height, width) or not spec.draws(grid):
        raise UserError(f"{height} x {width} pixels cannot be drawn; {_sizes(spec)}.")
    if spec.kind == "bits":
        return Sampler(grid=grid, **chosen)
    return Sampler(
        grid=grid,
        steps=chosen["steps"] or spec.steps,
        guidance=chosen["guidance"],
        image_guidance=chosen["image_guidance"] if editing else 1.0,
        renorm="text_channel" if editing else "global",
        interval=(0.0, 1.0) if editing else (0.4, 1.0),
    )


def _options(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling options of a kind of model, the official default where none is given."""
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in sorted(chosen.keys() - {*SIZE, *OPTIONS[kind]}):
        raise UserError(
            f"--{name} is no option of this model; it has --{', --'.join(OPTIONS[kind])}."
        )
    return {name: chosen.get(name, default) for name, default in OPTIONS[kind].items()}


def _sizes(spec: Spec) -> str:
    side = spec.token_pixels
    if spec.grids:
        return "sizes are " + ", ".join(f"{h * side} x {w * side}" for h, w in spec.grids)
    largest = " x ".join(str(n * side) for n in spec.max_grid)
    return f"sides must be multiples of {side}, at most {largest}"


def keys_of(seed: int, prompts: Sequence[int], count: int) -> Key[Array, "B G"]:
    """A key for every picture, from the number of its prompt alone: batches change nothing."""
    of = lambda n: jax.random.split(jax.random.fold_in(jax.random.key(seed), n), count)
    return jax.vmap(of)(np.asarray(prompts))
