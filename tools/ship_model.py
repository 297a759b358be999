"""Puts a pre-trained model among those that come with the package, with its scores beside it.

python tools/ship_model.py runs/bagel_tiny_pretrain bagel-tiny bagel_tiny
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asg_jax.backbone import Params
from asg_jax.models.registry import SHIPPED, open_model
from asg_jax.train.evaluate.judges import evaluate
from asg_jax.train.evaluate.scores import headroom, summary
from asg_jax.train.evolve.config import read
from asg_jax.train.flags import load_config


def rounded(value: Any) -> Any:
    """Numbers of nested tables with one digit after the point."""
    if isinstance(value, Mapping):
        return {name: rounded(own) for name, own in value.items()}
    return [round(number, 1) for number in value]


def ship(run: Path, name: str, config: str) -> None:
    """Copies the result of a pre-training run, and writes what the judges say of it.

    Args:
      run: folder of `asg-jax pretrain --config=CONFIG`, named as the config.
      name: how the package calls the model.
      config: whose `eval` section the judges follow.
    """
    folder = SHIPPED / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run / "model", folder)
    facts = json.loads((folder / "pretraining.json").read_text())
    command = f"asg-jax pretrain --config={run.resolve().name}"
    (folder / "pretraining.json").write_text(json.dumps({"command": command} | facts) + "\n")
    model, settings = open_model(name), read(load_config(config).to_dict()).eval
    params = Params(model.base)
    scores = evaluate(model, {"solver": params, "generator": params}, settings)
    report = {
        "command": f"asg-jax evaluate --model={name} --config={config}",
        "settings": asdict(settings),
        "points of 100: value, low, high": rounded(summary(scores)),
        "headroom: value, low, high": rounded(headroom(scores)),
    }
    (folder / "scores.json").write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    ship(Path(sys.argv[1]), *sys.argv[2:])
