"""Draw pictures of a prompt, or edit a picture by it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
from absl import flags
from tqdm import tqdm

from asg_jax.errors import UserError
from asg_jax.models.pictures import open_picture, to_picture
from asg_jax.models.places import check_writable, place, write_file
from asg_jax.prompts import LANGUAGES
from asg_jax.ranges import SEED
from asg_jax.train.choosing import choose
from asg_jax.train.drawing import GIVEN, draw, keys_of, make_sampler
from asg_jax.train.evolve.learned import open_roles
from asg_jax.train.flags import number, parse
from asg_jax.train.prompt_files import LAYOUTS, batches, read_items
from asg_jax.train.verifying import VERIFIERS, Verifier
from asg_jax.train.words import warn_of_unlearned

USAGE = (
    'usage: asg-jax generate --model=MODEL "prompt" --out=FOLDER [--image=FILE to edit]'
    " [--best-of=N | --search=hierarchical] [--verifier=NAME]"
    " | asg-jax generate --model=MODEL --prompts=FILE --layout=geneval|dpg|wise --out=FOLDER"
)
COUNT = 4  # pictures, unless a layout says how many


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("model", None, "Checkpoint, shipped model or run.", f, required=True)
    flags.DEFINE_string(
        "out", None, "Folder for the pictures, which are numbered on.", f, required=True
    )
    flags.DEFINE_string("image", None, "Picture to edit.", f)
    flags.DEFINE_string("prompts", None, "Prompt file of a benchmark (dpg: also its folder).", f)
    known = sorted(LAYOUTS)
    flags.DEFINE_enum("layout", None, known, "Of that file, and of what its scorer reads.", f)
    number(f, "batch", 8, "Prompts of a file that are drawn together.", least=1, most=10_000)
    number(f, "count", None, "Pictures of a prompt; 4, if no layout says.", least=1, most=10_000)
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
    languages = list(LANGUAGES)
    flags.DEFINE_enum("language", None, languages, "That the verifier speaks; the model's own.", f)
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = define()
    words = parse(f, argv, USAGE, words=None)
    if words is None:
        return
    if len(words) != (not f.prompts) or bool(f.prompts) != bool(f.layout) or f.prompts and f.image:
        raise UserError(f"expected 1 words beside the flags, or --prompts with --layout: {USAGE}")
    folder = place(f.out)
    check_writable(folder)
    if f.prompts:
        _benchmark(f, folder)
    else:
        _one(f, words[0], folder)


def _one(f: flags.FlagValues, prompt: str, folder: Path) -> None:
    """Pictures of one prompt, numbered on."""
    picture = [open_picture(f.image)] if f.image else []
    model, roles = open_roles(f.model)
    warn_of_unlearned(model.processor, prompt)
    request = model.processor.prompt([[*picture, prompt]], "draw")
    count, several, key = f.count or COUNT, int(f["best-of"].value or 1), jax.random.key(f.seed)
    if several > 1 or f.search:
        if picture:
            raise UserError("an edit is not verified; leave out --best-of and --search.")
        if several == 1:
            raise UserError("a search prunes; set --best-of to 2 or more, such as 4.")
        sampler = make_sampler(model.backbone.spec, request, _given(f))
        language = LANGUAGES[f.language or model.language]
        longest = len(model.processor.ids(prompt))
        whole = Verifier(model, roles["solver"], language, f.verifier, sampler.grid, longest)
        judge = partial(whole, [prompt])
        params, prune = roles["generator"], bool(f.search)
        drawn = choose(model, params, request, sampler, judge, key, count, several, prune)
    else:
        keys = jax.random.split(key, (1, count))
        drawn = draw(model, roles["generator"], request, keys, _given(f))[0]
    folder.mkdir(parents=True, exist_ok=True)
    first = _first_free(folder)
    for n, pixels in enumerate(drawn, first):
        data = BytesIO()
        to_picture(pixels).save(data, "png")
        write_file(folder / f"{n:04d}.png", data.getvalue())
    last = first + len(drawn) - 1
    print(f"wrote {len(drawn)} pictures to {folder}: {first:04d}.png to {last:04d}.png")


def _benchmark(f: flags.FlagValues, folder: Path) -> None:
    """Pictures of all prompts of a file; those that an earlier call finished stay."""
    layout = LAYOUTS[f.layout]
    if layout.count and f.count not in (None, layout.count):
        raise UserError(f"{f.layout} takes {layout.count} pictures of a prompt; leave out --count.")
    items, count = read_items(layout, place(f.prompts)), layout.count or f.count or COUNT
    left = [n for n, item in enumerate(items) if not (folder / layout.mark(item)).exists()]
    if len(left) < len(items):
        print(f"{len(items) - len(left)} of {len(items)} prompts are drawn already", flush=True)
    if not left:
        return
    model, roles = open_roles(f.model)
    warn_of_unlearned(model.processor, " ".join(items[n].prompt for n in left))
    folder.mkdir(parents=True, exist_ok=True)
    progress = tqdm(total=len(left), unit="prompt", disable=not sys.stderr.isatty())
    for numbers in batches(left, f.batch):
        request = model.processor.prompt([[items[n].prompt] for n in numbers], "draw")
        keys = keys_of(f.seed, numbers, count)
        drawn = draw(model, roles["generator"], request, keys, _given(f))
        for n, pictures in dict(zip(numbers, drawn, strict=True)).items():
            layout.save(folder, items[n], pictures)
            progress.update()
    progress.close()
    print(f"wrote {count} pictures of each of {len(left)} prompts to {folder}")


def _given(f: flags.FlagValues) -> dict[str, Any]:
    return {name: f[name].value for name in GIVEN}


def _first_free(folder: Path) -> int:
    """The number after those of all pictures in a folder: earlier ones stay."""
    taken = [int(path.stem) for path in folder.glob("*.png") if path.stem.isdecimal()]
    return max(taken, default=-1) + 1
