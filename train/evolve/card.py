"""The model card of a run: method, data, scores, checks and licence, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from asg_jax.models.registry import shipped_models
from asg_jax.train.evolve.signs import PLAIN, conclusion, verdicts
from asg_jax.train.evolve.summary import TITLES
from asg_jax.train.evolve.typed import flat

ROWS = {"understanding": "kind", "generation": "category"}  # measures that are told by kind


def card(config: Mapping[str, Any], found: Mapping[str, Any], role: str | None) -> str:
    """The text of `README.md` beside what a run learned.

    Args:
      config: settings of the run, as its folder holds them.
      found: its summary.
      role: whose update is merged into the weights; None where the adapters stand beside it.
    """
    return "\n".join(_lines(config, found, role)) + "\n"


def _lines(config: Mapping[str, Any], found: Mapping[str, Any], role: str | None) -> Iterator[str]:
    model, method = config["model"], config["method"].get("name", "asg")
    ours = model in shipped_models()
    yield from ("---", f"base_model: {model}", f"license: {'apache-2.0' if ours else 'other'}")
    yield from ("library_name: asg_jax", "pipeline_tag: any-to-any", "tags:", "- self-improvement")
    yield from ("---", "", f"# {config['name']}: {model}, evolved", "")
    pictures = config["data"].get("folder")
    yield (
        f"{model} after {found['steps']} steps of the method `{method}` of asg_jax: it asked itself"
        " questions about unlabeled pictures, answered them and drew, and was rewarded by its own"
        f" consistency. Seed {config['seed']}. The pictures were"
        f" {'those of a folder' if pictures else 'rendered scenes'}, without labels."
    )
    yield from ("", "## Use", "", *_use(role, model), "", "## Scores", "")
    if "understanding" in found:
        yield "Points of 100 by an exact judge outside of the training, with 95 % intervals."
        yield from ("", "| | before | after | change |", "| --- | --- | --- | --- |")
        for name, title in TITLES.items():
            yield _row(title, found[name])
            if name in ROWS:
                yield from (_row(f"- {k}", gain) for k, gain in found[name]["by_kind"].items())
    else:
        yield "No exact judge knows these pictures; measure before you rely on it."
    every = verdicts(found)
    yield from ("", "## Checks on the rewards", "", conclusion(every), "")
    yield from (
        "| check | what it is | first | last | verdict |",
        "| --- | --- | --- | --- | --- |",
    )
    for verdict in every:
        words = f"{verdict.state}: {verdict.words}" if verdict.state != PLAIN else verdict.words
        numbers = f"{verdict.first:.3g} | {verdict.last:.3g}"
        yield f"| `{verdict.name}` | {verdict.meaning} | {numbers} | {words} |"
    yield from ("", "## Licence", "", _licence(model, ours))
    made = " ".join(f"{name} {version};" for name, version in found.get("versions", {}).items())
    yield from ("", "## Settings", "", f"Made with {made.rstrip(';')}." if made else "", "")
    yield from ("    " + f"{name} = {value}" for name, value in flat(config).items())


def _row(title: str, gain: Mapping[str, Any]) -> str:
    low, high = gain["ci95"]
    change = f"{gain['delta']:+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"| {title} | {gain['before']:.1f} | {gain['after']:.1f} | {change} |"


def _use(role: str | None, model: str) -> Iterator[str]:
    if role is None:
        yield (
            "`adapters/ROLE` are PEFT folders on the base model. `asg-jax ask --model=FOLDER` and"
            " the other commands open this folder: each task uses the adapter of its role."
        )
    else:
        yield (
            f"The weights are those of {model} with what its {role.capitalize()} learned, in the"
            " official layout: other tools read them, and `asg-jax ask --model=FOLDER`."
        )
    yield "`sha256sum -c SHA256SUMS` tells whether the files are whole."


def _licence(model: str, ours: bool) -> str:
    if ours:
        return "Apache License 2.0, as asg_jax itself."
    return f"That of {model}, which this derives from; pictures it learned from may have their own."
