"""Draw pictures of a prompt, or edit a picture by it."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import jax
from absl import flags

from asg_jax.models.pictures import open_picture, to_picture
from asg_jax.models.places import check_writable, place, write_file
from asg_jax.ranges import SEED
from asg_jax.train.evolve.learned import open_roles
from asg_jax.train.flags import number, parse
from asg_jax.train.words import warn_of_unlearned

USAGE = 'usage: asg-jax generate --model=MODEL "prompt" --out=FOLDER [--image=FILE to edit]'


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
    keys = jax.random.split(jax.random.key(f.seed), (1, f.count))
    given = {name: f[name].value for name in GIVEN}
    drawn = draw(model, roles["generator"], request, keys, given)[0]
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
