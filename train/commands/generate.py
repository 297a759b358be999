"""Draw pictures of a prompt, or edit a picture by it."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from asg_jax.backbone import Request, Sampler, Spec, to_uint8
from asg_jax.errors import UserError
from asg_jax.models.pictures import open_picture, to_picture
from asg_jax.models.places import check_writable, place, write_file
from asg_jax.models.registry import Model
from asg_jax.ranges import SEED
from asg_jax.rollout.image import draw_pictures
from asg_jax.train.evolve.learned import open_roles
from asg_jax.train.flags import number, parse
from asg_jax.train.words import warn_of_unlearned

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
    flags.DEFINE_string(
        "out", None, "Folder for the pictures, which are numbered on.", f, required=True
    )
    flags.DEFINE_string("image", None, "Picture to edit.", f)
    number(f, "count", 4, "How many pictures.", least=1, most=10_000)
    number(f, "height", None, "In pixels; the usual one by default.", least=1)
    number(f, "width", None, "In pixels; the usual one by default.", least=1)
    real = lambda name, text, **bounds: number(f, name, None, text, float, **bounds)
    real("guidance", "Text guidance, 1 is off; 4 by default, 3 for bits.", least=0, most=1000)
    number(f, "steps", None, "Network evaluations.", least=1, most=10_000)
    real("image_guidance", "Image guidance in edits, 1 is off; 2 by default.", least=0, most=1000)
    real("temperature", "Of the distributions of bits; 0.5 by default.", above=0)
    real("top_p", "A bit's value no likelier than 1 - top_p is left out; .97.", above=0, most=1)
    number(f, "seed", 0, "Random seed.", within=SEED)
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = define()
    words = parse(f, argv, USAGE, words=1)
    if words is None:
        return
    folder = place(f.out)
    check_writable(folder)
    picture = [open_picture(f.image)] if f.image else []
    model, roles = open_roles(f.model)
    warn_of_unlearned(model.processor, words[0])
    request = model.processor.prompt([[*picture, words[0]]], "draw")
    sampler = make_sampler(f, model, request)
    keys = jax.random.split(jax.random.key(f.seed), (1, f.count))
    draw = jax.jit(draw_pictures, static_argnums=(0, 4))
    pictures = to_uint8(draw(model.backbone, roles["generator"], request, keys, sampler))
    drawn = np.asarray(pictures)[0]
    folder.mkdir(parents=True, exist_ok=True)
    first = _first_free(folder)
    for n, pixels in enumerate(drawn, first):
        data = BytesIO()
        to_picture(pixels).save(data, "png")
        write_file(folder / f"{n:04d}.png", data.getvalue())
    last = first + len(drawn) - 1
    print(f"wrote {len(drawn)} pictures to {folder}: {first:04d}.png to {last:04d}.png")


def _first_free(folder: Path) -> int:
    """The number after those of all pictures in a folder: earlier ones stay."""
    taken = [int(path.stem) for path in folder.glob("*.png") if path.stem.isdecimal()]
    return max(taken, default=-1) + 1


def options(f: flags.FlagValues, kind: str) -> dict[str, Any]:
    """Sampling options of a kind of model, the official default where a flag is not given.

    Raises:
      UserError: a flag belongs to another kind.
    """
    for name in sorted(set().union(*OPTIONS.values()) - set(OPTIONS[kind])):
        if f[name].value is not None:
            raise UserError(
                f"--{name} is no option of this model; it has --{', --'.join(OPTIONS[kind])}."
            )
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
        height = usual[0] * side if f.height is None else f.height
        width = usual[1] * side if f.width is None else f.width
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
