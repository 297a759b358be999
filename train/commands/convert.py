"""Turn an official checkpoint into sharded arrays, or back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from absl import flags

from asg_jax.adapters import merge
from asg_jax.models import peft
from asg_jax.models.places import check_new, check_writable, place
from asg_jax.models.registry import open_model, save_converted, save_official
from asg_jax.train.flags import parse

USAGE = (
    "usage: asg-jax convert --model=FOLDER --out=FOLDER [--to=orbax|official] [--adapter=FOLDER]"
)


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    flags.DEFINE_string("model", None, "Folder to convert.", f, required=True)
    flags.DEFINE_string("out", None, "Folder to write, a new one.", f, required=True)
    flags.DEFINE_enum("to", "orbax", ["orbax", "official"], "Layout to write.", f)
    flags.DEFINE_string("adapter", None, "PEFT folder of an adapter to merge into the weights.", f)
    dtypes = ["float32", "bfloat16"]
    flags.DEFINE_enum("dtype", None, dtypes, "Of the written weights; as stored by default.", f)
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = define()
    if parse(f, argv, USAGE) is None:
        return
    out = place(f.out)
    check_new(out)
    check_writable(out)
    model = open_model(f.model, f.dtype)
    if f.adapter:
        adapter = peft.load(place(f.adapter), model.base, model.official_module)
        model = replace(model, base=merge(model.base, adapter))
    if f.to == "orbax":
        save_converted(out, model)
    else:
        save_official(out, model)
    print(f"wrote {out}")
