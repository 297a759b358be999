"""The rewards benchmark as one page of HTML that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from html import escape
from io import StringIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asg_jax.train.benchmarks.power import Truth, roc
from asg_jax.train.benchmarks.rewards_report import lines

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto; background: #f4f4f2; padding: 1rem; font-size: 13px }
figure { margin: 2rem 0 } svg { max-width: 100%; height: auto } figcaption { color: #555 }
"""


def page(report: Mapping[str, Any]) -> str:
    """The page of a report: plots, and the tables as they are printed."""
    figures = "".join(
        f"<figure>{_svg(draw, report)}<figcaption>{escape(caption)}</figcaption></figure>"
        for draw, caption in (
            (_bars, "Area under the ROC curve, with 95 % intervals; 50 is chance."),
            (_curves, "Right pictures that reach a threshold, against wrong ones."),
            (_costs, "Pictures per second, each signal alone, against what it sees."),
        )
    )
    settings = escape(json.dumps({**report["settings"], **report["versions"]}, indent=1))
    title = escape(f"Reward signals of {report['model']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>{figures}"
        f"<pre>{escape(chr(10).join(lines(report)))}</pre>"
        f"<h2>Settings</h2><pre>{settings}</pre></body></html>\n"
    )


def _svg(draw: Callable[[Axes, Mapping[str, Any], str], None], report: Mapping[str, Any]) -> str:
    """A row of plots, one for each set."""
    sets = list(report["sets"])
    height = 1.5 + 0.35 * max(6, len(report["signals"]))
    figure = Figure(figsize=(6 * len(sets), height), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        axes.set_title(name)
        draw(axes, report, name)
    text = StringIO()
    figure.savefig(
        text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    return text.getvalue().split("?>", 1)[1].split(">", 1)[1]  # without the head of a file


def _auc(report: Mapping[str, Any], name: str) -> dict[str, list[float]]:
    """The figure that tells most, of every signal that has it."""
    found = {n: one["power"][name] for n, one in report["signals"].items()}
    return {n: list(x.get("auc") or x["pairs"]) for n, x in found.items() if "pairs" in x}


def _bars(axes: Axes, report: Mapping[str, Any], name: str) -> None:
    found = sorted(_auc(report, name).items(), key=lambda item: item[1][0])
    for row, (_, (value, low, high)) in enumerate(found):
        axes.barh(row, value, color="#9bbbd4")
        axes.plot([low, high], [row, row], color="#223344")
    axes.set_yticks(range(len(found)), [signal for signal, _ in found])
    axes.axvline(50, color="#aa3333", linewidth=1)
    axes.set_xlim(0, 100)


def _curves(axes: Axes, report: Mapping[str, Any], name: str) -> None:
    known = report["sets"][name]
    truth = Truth(np.array(known["rank"]), np.array(known["exists"]), known["kinds"])
    if truth.right.any() and not truth.right[truth.exists].all():
        for signal, one in report["signals"].items():
            axes.plot(*roc(np.array(one["scores"][name]), truth), label=signal)
        axes.legend(fontsize="small")
    axes.plot([0, 1], [0, 1], color="#aaaaaa", linewidth=1)
    axes.set_xlabel("wrong pictures")
    axes.set_ylabel("right pictures")


def _costs(axes: Axes, report: Mapping[str, Any], name: str) -> None:
    for signal, (value, low, high) in _auc(report, name).items():
        speed = report["signals"][signal]["speed"]["samples_per_second"]
        axes.plot([speed, speed], [low, high], color="#223344")
        axes.plot(speed, value, "o", color="#335577")
        axes.annotate(signal, (speed, value), xytext=(4, 4), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("pictures per second")
    axes.set_ylabel("AUC")
    axes.axhline(50, color="#aa3333", linewidth=1)
