"""Draw pictures of a prompt, the best of several if wished, or edit a picture by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import UInt8

from asg_jax.backbone import Params, Request, Sampler, Spec, to_uint8
from asg_jax.errors import UserError
from asg_jax.models.pictures import open_picture, to_picture
from asg_jax.models.places import check_writable, place, write_file
from asg_jax.models.registry import Model
from asg_jax.prompts import LANGUAGES
from asg_jax.ranges import SEED
from asg_jax.rollout.image import draw_pictures
from asg_jax.rollout.search import Plan, search
from asg_jax.signals.selection import best_of
from asg_jax.train.evolve.learned import open_roles
from asg_jax.train.flags import number, parse
from asg_jax.train.verifying import VERIFIERS, Verifier

USAGE = (
    'usage: asg-jax generate --model=MODEL "prompt" --out=FOLDER [--image=FILE to edit]'
    " [--best-of=N | --search=hierarchical] [--verifier=NAME]"
)
NOISE = 0.7  # of the stochastic sampler by which branches of a search differ

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
    number(f, "best-of", 1, "Draw N times as many and keep the best.", least=1)
    flags.DEFINE_enum(
        "search", None, ["hierarchical"], "Prune drawings while they are made; see --best-of.", f
    )
    flags.DEFINE_enum("verifier", "p_yes", list(VERIFIERS), "How the model judges drawings.", f)
    flags.DEFINE_enum("language", "english", list(LANGUAGES), "That the verifier speaks.", f)
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
    request = model.processor.prompt([[*picture, words[0]]], "draw")
    sampler = make_sampler(f, model, request)
    if picture and (best_of_n(f) > 1 or f.search):
        raise UserError("an edit is not verified; leave out --best-of and --search.")
    if f.search:
        drawn = search_pictures(f, model, roles, request, sampler, words[0])
    else:
        drawn = best_pictures(f, model, roles, request, sampler, words[0])
    folder.mkdir(parents=True, exist_ok=True)
    first = _first_free(folder)
    for n, pixels in enumerate(drawn, first):
        data = BytesIO()
        to_picture(pixels).save(data, "png")
        write_file(folder / f"{n:04d}.png", data.getvalue())
    last = first + len(drawn) - 1
    print(f"wrote {len(drawn)} pictures to {folder}: {first:04d}.png to {last:04d}.png")


def best_of_n(f: flags.FlagValues) -> int:
    """The value of --best-of, whose name is none of Python's."""
    return int(f["best-of"].value or 1)


def best_pictures(
    f: flags.FlagValues,
    model: Model,
    roles: Mapping[str, Params],
    request: Request,
    sampler: Sampler,
    prompt: str,
) -> UInt8[np.ndarray, "N H W 3"]:
    """As many pictures as asked for, the best of N times as many by the model's own verdict."""
    several, steps = best_of_n(f), evaluations(model.backbone.spec, sampler)
    draw = jax.jit(draw_pictures, static_argnums=(0, 4))
    keys = jax.random.split(jax.random.key(f.seed), (1, f.count * several))
    pixels = draw(model.backbone, roles["generator"], request, keys, sampler)
    if several > 1:
        language = LANGUAGES[f.language]
        verifier = Verifier(model, roles["solver"], language, prompt, f.verifier, sampler.grid)
        scores = verifier(pixels)[0]
        best = np.asarray(best_of(jnp.asarray(scores), f.count))
        pixels = pixels[:, best]
        spent = steps * len(scores)
        report(spent, spent, verifier, scores[best].tolist())
    return np.asarray(to_uint8(pixels))[0]


def search_pictures(
    f: flags.FlagValues,
    model: Model,
    roles: Mapping[str, Params],
    request: Request,
    sampler: Sampler,
    prompt: str,
) -> UInt8[np.ndarray, "N H W 3"]:
    """As many pictures as asked for, from a search among `--best-of` times as many."""
    if best_of_n(f) < 2:
        raise UserError("a search prunes; set --best-of to 2 or more, such as 4.")
    backbone = model.backbone
    if backbone.spec.kind == "flow":
        sampler = replace(sampler, noise_level=NOISE)
    plan = Plan(trajectories=f.count * best_of_n(f), survivors=f.count)
    language, key = LANGUAGES[f.language], jax.random.key(f.seed)
    verifier = Verifier(model, roles["solver"], language, prompt, f.verifier, sampler.grid)
    judge = lambda pixels: jnp.asarray(verifier(pixels))
    found = search(backbone, roles["generator"], request, key, sampler, plan, judge)
    whole = plan.trajectories * evaluations(backbone.spec, sampler)
    report(found.evaluations, whole, verifier, found.scores.tolist())
    return np.asarray(to_uint8(found.pixels))


def evaluations(spec: Spec, sampler: Sampler) -> int:
    """Network evaluations of one picture."""
    return sampler.steps if spec.kind == "flow" else spec.steps


def report(spent: int, whole: int, verifier: Verifier, scores: Sequence[float]) -> None:
    """Prints what choosing took, and how good the chosen pictures are told to be."""
    print(
        f"{spent} network evaluations of {whole} without pruning, {verifier.looked} verdicts;"
        f" scores {', '.join(f'{score:.3f}' for score in scores)}"
    )


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
