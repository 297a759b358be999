"""Draw pictures of a prompt, or edit a picture by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags

from asg_jax.backbone import Params, Request, Sampler, to_uint8
from asg_jax.errors import UserError
from asg_jax.models.pictures import open_picture, to_picture
from asg_jax.models.registry import Model, open_model
from asg_jax.rollout.image import draw_pictures
from asg_jax.train.flags import parse

USAGE = 'usage: asg-jax generate --model=MODEL "prompt" --out=FOLDER [--image=FILE to edit]'


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("model", None, "Checkpoint folder or shipped model.", f, required=True)
    flags.DEFINE_string("out", None, "Folder for the pictures.", f, required=True)
    flags.DEFINE_string("image", None, "Picture to edit.", f)
    flags.DEFINE_integer("count", 4, "How many pictures.", lower_bound=1, flag_values=f)
    flags.DEFINE_integer("height", None, "In pixels; the largest by default.", flag_values=f)
    flags.DEFINE_integer("width", None, "In pixels; the largest by default.", flag_values=f)
    flags.DEFINE_integer("steps", None, "Network evaluations.", lower_bound=1, flag_values=f)
    flags.DEFINE_float("guidance", 4.0, "Text guidance; 1 is off.", flag_values=f)
    flags.DEFINE_float("image_guidance", 2.0, "Image guidance in edits; 1 is off.", flag_values=f)
    flags.DEFINE_integer("seed", 0, "Random seed.", flag_values=f)
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = define()
    words = parse(f, argv, USAGE, words=1)
    if words is None:
        return
    picture = [open_picture(Path(f.image))] if f.image else []
    model = open_model(f.model)
    request = model.processor.prompt([[*picture, words[0]]], "draw")
    sampler = make_sampler(f, model, request)
    keys = jax.random.split(jax.random.key(f.seed), (1, f.count))
    draw = jax.jit(draw_pictures, static_argnums=(0, 4))
    pictures = to_uint8(draw(model.backbone, Params(model.base), request, keys, sampler))
    folder = Path(f.out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    for n, pixels in enumerate(np.asarray(pictures)[0]):
        to_picture(pixels).save(folder / f"{n:04d}.png")
    print(f"wrote {f.count} pictures to {folder}")


def make_sampler(f: flags.FlagValues, model: Model, request: Request) -> Sampler:
    """Settings of the request: an edit keeps the size of its picture."""
    spec = model.backbone.spec
    side, largest = spec.token_pixels, spec.max_grid
    editing = request.sources is not None
    if request.sources is not None:
        height, width = request.sources.shape[1:3]
    else:
        height = f.height or largest[0] * side
        width = f.width or largest[1] * side
    grid = height // side, width // side
    whole = (grid[0] * side, grid[1] * side) == (height, width)
    if not whole or not all(0 < n <= most for n, most in zip(grid, largest, strict=True)):
        raise UserError(
            f"{height} x {width} pixels cannot be drawn; sides must be multiples of {side}, "
            f"at most {largest[0] * side} x {largest[1] * side}."
        )
    return Sampler(
        grid=grid,
        steps=f.steps or spec.steps,
        guidance=f.guidance,
        image_guidance=f.image_guidance if editing else 1.0,
        renorm="text_channel" if editing else "global",
        interval=(0.0, 1.0) if editing else (0.4, 1.0),
    )
