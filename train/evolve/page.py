"""A run as one self-contained page: scores, checks in words, curves, drawings, settings."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from asg_jax.errors import UserError
from asg_jax.train.evaluate.detector import detect
from asg_jax.train.evaluate.prompts import prompt_set
from asg_jax.train.evolve.config import FILE, read
from asg_jax.train.evolve.files import Folder, damaged, read_json
from asg_jax.train.evolve.logs import SAMPLES, read_lines, read_metrics
from asg_jax.train.evolve.run import SUMMARY
from asg_jax.train.evolve.signs import BAD, conclusion, verdicts
from asg_jax.train.evolve.summary import TITLES
from asg_jax.train.evolve.typed import flat
from asg_jax.train.settings_help import Setting, sections

TEMPLATE = Path(__file__).with_name("page.html")
DRAWINGS = 24  # prompts that are shown
ROWS = 12  # of a table of questions and answers
COLUMNS = 3  # of the panels of curves
POINTS = 400  # of a curve; longer runs are averaged
# Groups of metrics, a panel for each phase; the first part of a name is its group.
GROUPS = {
    "reward": "rewards",
    "signal": "signals",
    "check": "checks",
    "kl": "drift from the frozen model",
    "gradient": "gradient norms",
    "entropy": "token entropy, nats",
}
LEFT_OUT = ("_std", "_flat")  # ends of names
# Text stays text, so that the page can be searched; ids do not change from call to call.
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "asg_jax", "font.size": 9}


def render(folder: Folder) -> str:
    """The page of a finished run.

    Raises:
      UserError: the folder holds none.
    """
    if not (folder / SUMMARY).exists():
        raise UserError(f"{folder} holds no finished run: there is no {SUMMARY}; let it end first.")
    found = read_json(folder / SUMMARY, "steps", "seconds", "checks")
    config = read_json(folder / FILE, "name", "model", "method", "seed", "data", "eval")
    every = verdicts(found)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(TEMPLATE.read_text()).render(
        title=f"{config['name']}: {config['model']}, evolved",
        facts=[
            f"{found['steps']} steps in {found['seconds'] / 60:.0f} minutes",
            f"seed {config['seed']}",
            f"pictures: {config['data'].get('folder') or 'rendered scenes'}",
        ],
        verdicts=every,
        conclusion=conclusion(every),
        suspicious=any(verdict.state == BAD for verdict in every),
        scores=[_scores(title, found[name]) for name, title in TITLES.items() if name in found],
        curves=curves(read_metrics(folder)),
        drawings=list(_drawings(folder, config["eval"])),
        samples=list(_samples(read_lines(folder / SAMPLES))),
        settings=_settings(config),
        versions=[f"{name} {version}" for name, version in found.get("versions", {}).items()],
    )


def _settings(config: Mapping[str, Any]) -> list[Setting]:
    """With their meanings, if the run is none of an earlier release."""
    try:
        return [setting for section in sections(read(config)) for setting in section.settings]
    except UserError:
        return [Setting(name, value, "", "") for name, value in flat(config).items()]


def _scores(title: str, gain: Mapping[str, Any]) -> dict[str, Any]:
    rows = {"all": gain, **gain["by_kind"]}
    return {"title": f"{title}, points of 100", "rows": [_row(k, v) for k, v in rows.items()]}


def _row(name: str, gain: Mapping[str, Any]) -> dict[str, str]:
    low, high = gain["ci95"]
    return {
        "name": name,
        "before": f"{gain['before']:.1f}",
        "after": f"{gain['after']:.1f}",
        "change": f"{gain['delta']:+.1f}",
        "interval": f"{low:+.1f} to {high:+.1f}",
        "sure": "gain" if low > 0 else "loss" if high < 0 else "",
    }


def curves(lines: Sequence[Mapping[str, Any]]) -> str:
    """All metrics of a run over its steps, as one SVG picture.

    Args:
      lines: what `read_metrics` gives.
    """
    panels: dict[tuple[str, str], dict[str, list[tuple[int, float]]]] = {}
    for line in lines:
        for name, value in line.items():
            group, _, rest = name.partition("/")
            if group in GROUPS and isinstance(value, float | int) and not rest.endswith(LEFT_OUT):
                panel = panels.setdefault((group, line["phase"]), {})
                panel.setdefault(rest, []).append((line["step"], value))
    if not panels:
        return "<p>The run kept no metrics.</p>"
    with matplotlib.rc_context(STYLE):
        height = -(-len(panels) // COLUMNS)
        drawing = Figure(figsize=(12, 2.9 * height), layout="constrained")
        order = sorted(panels, key=lambda key: (list(GROUPS).index(key[0]), key[1]))
        for place, (group, phase) in enumerate(order, start=1):
            axes = drawing.add_subplot(height, COLUMNS, place, title=f"{GROUPS[group]}, {phase}")
            for name, points in panels[group, phase].items():
                axes.plot(*_thinned(points), label=name, linewidth=1.2)
            axes.set_xlabel("step")
            axes.grid(alpha=0.25)
            axes.legend(fontsize=7, framealpha=0.6)
        file = StringIO()
        drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, means of neighbours where there are very many."""
    steps, values = np.array(points, float).T
    size = -(-len(steps) // POINTS)
    starts = np.arange(0, len(steps), size)
    counts = np.diff(starts, append=len(steps))
    mean = lambda x: np.add.reduceat(x, starts) / counts
    return mean(steps), mean(values)


def _drawings(folder: Folder, judged: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Pictures of the same prompts before and after, with the detector's verdicts."""
    pictures = {when: _pictures(folder / f"{when}.npz") for when in ("before", "after")}
    if any(rows is None for rows in pictures.values()):
        return
    rows = {when: found[:DRAWINGS] for when, found in pictures.items() if found is not None}
    seen = {when: detect(found) for when, found in rows.items()}
    prompts = prompt_set(judged["seed"], judged["prompts"])[:DRAWINGS]
    for n, prompt in enumerate(prompts[: len(rows["before"])]):
        shown = [
            {"when": when, "data": _png(found[n]), "met": prompt.met(seen[when][n])}
            for when, found in rows.items()
        ]
        yield {"prompt": str(prompt), "pictures": shown}


def _pictures(path: Folder) -> np.ndarray | None:
    if not path.exists():
        return None
    try:
        with np.load(BytesIO(path.read_bytes())) as arrays:
            return arrays["pictures"]
    except (OSError, ValueError, KeyError) as error:
        raise damaged(path, error) from error


def _png(pixels: np.ndarray) -> str:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _samples(lines: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The first and the last table of every phase."""
    phases = dict.fromkeys(line["phase"] for line in lines)
    for phase in phases:
        own = [line for line in lines if line["phase"] == phase]
        for line in own[:1] + own[1:][-1:]:
            rows = line["rows"][:ROWS]
            names = list(dict.fromkeys(name for row in rows for name in row))
            cells = [[_cell(row.get(name, "")) for name in names] for row in rows]
            yield {"step": line["step"], "phase": phase, "names": names, "rows": cells}


def _cell(value: Any) -> dict[str, Any]:
    number = isinstance(value, float | int) and not isinstance(value, bool)
    return {"text": f"{value:.3g}" if isinstance(value, float) else str(value), "number": number}
