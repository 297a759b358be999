"""Rollouts of texts and images: the engine against a plain port, and where its time goes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from PIL import Image as Pillow

from asg_jax.backbone import Params, Processor, Request, Sampler, host
from asg_jax.errors import UserError
from asg_jax.models.places import new_file, write_file
from asg_jax.models.registry import Model, open_model
from asg_jax.rollout.text import TextSampler
from asg_jax.train.benchmarks import image, text
from asg_jax.train.benchmarks.forms import Task, measure
from asg_jax.train.benchmarks.report import lines
from asg_jax.train.flags import number, parse

USAGE = "usage: asg-jax bench rollout --model=FOLDER|random:SIZE [--out=FILE.json]"

WORDS = "how many red circles stand left of the large blue square in this picture".split()
QUESTION = 24  # tokens of a text where no context is asked for
# Largest differences of the two forms in float32; nothing is said of coarser numbers.
TOLERANCES = {"tokens": 0.0, "log_probs": 1e-4, "pixels": 2e-4}


def define() -> flags.FlagValues:
    """The benchmark's flags."""
    f = flags.FlagValues()
    count = lambda name, default, meaning, low=1: number(
        f, name, default, meaning, least=low, most=1_000_000
    )
    flags.DEFINE_string("model", None, "Checkpoint folder, or random:SIZE.", f, required=True)
    dtypes = ["float32", "bfloat16"]
    flags.DEFINE_enum("dtype", None, dtypes, "Of the model; as stored by default.", f)
    flags.DEFINE_enum("only", None, ["text", "image"], "One of the two rollouts.", f)
    flags.DEFINE_boolean("skip_plain", False, "Measure the engine alone.", f)
    count("batch", 4, "Prompts.")
    count("samples", 8, "Samples of each prompt.")
    count("tokens", 32, "Tokens of each text.", low=2)
    count("context", None, "Rows of a prompt for texts: picture and question.")
    count("steps", 16, "Steps of image sampling.", low=2)
    count("size", 128, "Side of the pictures, in pixels.")
    count("repeat", 3, "Timings of everything; medians are printed.")
    number(f, "bandwidth", None, "Of the device, in GB/s: prints its used share.", float, least=1)
    flags.DEFINE_string("out", None, "JSON file for all numbers.", f)
    return f


def main(argv: Sequence[str]) -> int | None:
    """Runs the benchmark; the status is 1 if something compiled twice or the forms differ."""
    f = define()
    if parse(f, argv, USAGE) is None:
        return None
    out = new_file(f.out) if f.out else None
    model = open_model(f.model, f.dtype)
    report = run(f, model)
    print("\n".join(lines(report)))
    if out is not None:
        write_file(out, (json.dumps(report, indent=1) + "\n").encode())
    return 0 if report["passed"] else 1


def run(f: flags.FlagValues, model: Model) -> dict[str, Any]:
    """Everything that was measured, and how."""
    device = jax.devices()[0]
    report: dict[str, Any] = {
        "benchmark": "rollout",
        "settings": {name: f[name].value for name in f},
        "dtype": str(model.backbone.unembedding(Params(model.base)).dtype),
        "device": {"platform": device.platform, "kind": device.device_kind},
        "jax": jax.__version__,
    }
    if f.only != "image":
        tasks = [text_task(f, model, turn) for turn in range(3)]
        prompt = tasks[0].request.prompts.main
        report["text"] = {
            "rows": int(prompt.mask.sum(1).max()),
            "bucket": prompt.mask.shape[1],
            **measure(text.FORMS, tasks[0], tasks[1:], f.repeat, f.skip_plain),
        }
    if f.only != "text":
        tasks = [image_task(f, model, turn) for turn in range(3)]
        report["image"] = measure(image.FORMS, tasks[0], tasks[1:], f.repeat, f.skip_plain)
    if "text" in report and f.bandwidth:  # a step of image sampling is not bound by memory
        step = report["text"]["step"]
        step["bandwidth_share"] = step["gigabytes_per_second"] / f.bandwidth
    return report | {"passed": passed(report)}


def passed(report: dict[str, Any]) -> bool:
    """Whether nothing compiled twice, and both forms computed the same."""
    measured = [report[part] for part in ("text", "image") if part in report]
    differences = [pair for part in measured for pair in part.get("differences", {}).items()]
    same = all(value <= TOLERANCES[name] for name, value in differences)
    once = not any(part["compilation"]["recompilations"] for part in measured)
    return once and (same or report["dtype"] != "float32")


def text_task(f: flags.FlagValues, model: Model, turn: int) -> Task:
    """Questions about pictures; another turn has other contents of the same shapes.

    The first sample of every prompt is greedy. There are no stop tokens, so that all texts are of
    one length.
    """
    rng = np.random.default_rng(turn)
    noise = rng.integers(0, 256, (f.batch, f.size, f.size, 3), np.uint8)
    pictures = [Pillow.fromarray(pixels) for pixels in noise]
    temperature = np.full((f.batch, f.samples), 1 - 0.1 * turn, np.float32)
    temperature[:, 0] = 0
    return Task(
        model.backbone,
        Params(model.base),
        question(f, model.processor, pictures, turn),
        jax.random.split(jax.random.key(turn), (f.batch, f.samples)),
        TextSampler(host(temperature), f.tokens, ()),
    )


def question(
    f: flags.FlagValues, processor: Processor, pictures: Sequence[Pillow.Image], turn: int
) -> Request:
    """A question about each picture, together of as many rows as `--context` says."""

    def ask(tokens: int) -> Request:
        texts = [words(processor, tokens, turn + n) for n in range(len(pictures))]
        turns = list(zip(pictures, texts, strict=True))
        return processor.prompt(turns, "answer")

    if f.context is None:
        return ask(QUESTION)
    least = int(ask(0).prompts.main.mask.sum(1).max())
    if f.context < least:
        raise UserError(f"a picture alone takes {least} rows: --context must be at least that.")
    return ask(f.context - least)


def image_task(f: flags.FlagValues, model: Model, turn: int) -> Task:
    """Pictures of texts; another turn has other contents of the same shapes."""
    spec = model.backbone.spec
    if spec.kind != "flow":
        raise UserError("the image benchmark knows flow models only; use --only=text.")
    side, largest = spec.token_pixels, min(spec.max_grid) * spec.token_pixels
    if f.size % side or f.size > largest:
        raise UserError(f"--size must be a multiple of {side}, at most {largest}.")
    texts = [words(model.processor, QUESTION, turn + n) for n in range(f.batch)]
    return Task(
        model.backbone,
        Params(model.base),
        model.processor.prompt([[text] for text in texts], "draw"),
        jax.random.split(jax.random.key(turn), (f.batch, f.samples)),
        Sampler(
            grid=(f.size // side, f.size // side),
            steps=f.steps,
            guidance=4.0,
            image_guidance=1.5,
            interval=(0.4, 1.0),
        ),
    )


def words(processor: Processor, tokens: int, first: int) -> str:
    """A text of that many tokens, which begins with the given word of the list."""
    start = first % len(WORDS)
    cycle = "".join(f" {word}" for word in [*WORDS[start:], *WORDS[:start]])
    repeats = 1 + tokens // len(WORDS)  # a word is one token or more
    return processor.text(processor.ids(cycle * repeats)[:tokens])
