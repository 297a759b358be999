"""Draw pictures of a prompt, or edit a picture by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from asg_jax.backbone import Request, Sampler, Spec, to_uint8
from asg_jax.errors import UserError
from asg_jax.models.pictures import open_picture, to_picture
from asg_jax.models.registry import Model
from asg_jax.rollout.image import draw_pictures
from asg_jax.train.evolve.learned import open_roles
from asg_jax.train.flags import parse

USAGE = 'usage: asg-jax generate --model=MODEL "prompt" --out=FOLDER [--image=FILE to edit]'

# Options of sampling by kind of model (`Spec.kind`), with the official defaults; None is the
# model's own number. (Two values leave a top-k nothing to choose.)
OPTIONS: dict[str, dict[str, Any]] = {
    "flow": {"steps": None, "guidance": 4.0, "image_guidance": 2.0},
    "bits": {"guidance": 3.0, "temperature": 0.5, "top_p": 0.97},
}


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("model", None, "Checkpoint, shipped model or run.", f, required=True)
    flags.DEFINE_string("out", None, "Folder for the pictures.", f, required=True)
    flags.DEFINE_string("image", None, "Picture to edit.", f)
    flags.DEFINE_integer("count", 4, "How many pictures.", lower_bound=1, flag_values=f)
    flags.DEFINE_integer("height", None, "In pixels; the usual one by default.", flag_values=f)
    flags.DEFINE_integer("width", None, "In pixels; the usual one by default.", flag_values=f)
    number = lambda name, text: flags.DEFINE_float(name, None, text, flag_values=f)
    number("guidance", "Text guidance, 1 is off; 4 by default, 3 for models that draw bits.")
    flags.DEFINE_integer("steps", None, "Network evaluations.", lower_bound=1, flag_values=f)
    number("image_guidance", "Image guidance in edits, 1 is off; 2 by default.")
    number("temperature", "Of the distributions of bits; 0.5 by default.")
    number("top_p", "A bit's rarer value is left out up to 1 - top_p; 0.97 by default, 1 is off.")
    flags.DEFINE_integer("seed", 0, "Random seed.", flag_values=f)
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = define()
    words = parse(f, argv, USAGE, words=1)
    if words is None:
        return
    picture = [open_picture(Path(f.image))] if f.image else []
    model, roles = open_roles(f.model)
    request = model.processor.prompt([[*picture, words[0]]], "draw")
    sampler = make_sampler(f, model, request)
    keys = jax.random.split(jax.random.key(f.seed), (1, f.count))
    draw = jax.jit(draw_pictures, static_argnums=(0, 4))
    pictures = to_uint8(draw(model.backbone, roles["generator"], request, keys, sampler))
    folder = Path(f.out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    for n, pixels in enumerate(np.asarray(pictures)[0]):
        to_picture(pixels).save(folder / f"{n:04d}.png")
    print(f"wrote {f.count} pictures to {folder}")


def options(f: flags.FlagValues, kind: str) -> dict[str, Any]:
    """Sampling options of a kind of model, the official default where a flag is not given.

    Raises:
      UserError: a flag belongs to another kind, or its value is out of range.
    """
    for name in sorted(set().union(*OPTIONS.values()) - set(OPTIONS[kind])):
        if f[name].value is not None:
            raise UserError(
                f"--{name} is no option of this model; it has --{', --'.join(OPTIONS[kind])}."
            )
    if f.temperature is not None and f.temperature <= 0:
        raise UserError(f"--temperature is {f.temperature}; it must be above 0.")
    if f.top_p is not None and not 0 < f.top_p <= 1:
        raise UserError(f"--top_p is {f.top_p}; it must be above 0 and at most 1.")
    given = {name: f[name].value for name in OPTIONS[kind]}
    return {name: OPTIONS[kind][name] if value is None else value for name, value in given.items()}


def _sizes(spec: Spec) -> str:
    side = spec.token_pixels
    if spec.grids:
        return "sizes are " + ", ".join(f"{h * side} x {w * side}" for h, w in spec.grids)
    largest = " x ".join(str(n * side) for n in spec.max_grid)
    return f"sides must be multiples of {side}, at most {largest}"


def make_sampler(f: flags.FlagValues, model: Model, request: Request) -> Sampler:
    """Settings of the request: an edit keeps the size of its picture."""
    spec = model.backbone.spec
    chosen = options(f, spec.kind)
    side, usual = spec.token_pixels, spec.max_grid
    editing = request.sources is not None
    if request.sources is not None:
        height, width = request.sources.shape[1:3]
    else:
        height = f.height or usual[0] * side
        width = f.width or usual[1] * side
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
