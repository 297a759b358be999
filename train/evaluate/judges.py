"""Both judges together: what the programs call before, during and after training."""

from __future__ import annotations

from collections.abc import Mapping

from asg_jax.backbone import Params
from asg_jax.models.registry import Model
from asg_jax.train.evaluate.generation import judge_generation
from asg_jax.train.evaluate.scores import BEST_OF, GENERATION, UNDERSTANDING, Scores
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evaluate.understanding import judge_understanding


def evaluate(
    model: Model, roles: Mapping[str, Params], settings: EvalSettings, headroom: bool = True
) -> Scores:
    """Measures how well a model answers and draws; the truth never leaves the judges.

    Programs are compiled once and serve all parameters of one structure.

    Args:
      model: backbone and processor.
      roles: parameters of 'solver' and 'generator'.
      settings: the evaluation's.
      headroom: measure as well what the model could gain by agreeing with itself, which takes
        several times as long.
    """
    answers = judge_understanding(model, roles["solver"], settings, headroom)
    drawn, best = judge_generation(model, roles["generator"], settings, headroom)
    parts = {UNDERSTANDING: answers, GENERATION: drawn}
    return Scores(parts | ({} if best is None else {BEST_OF: best}))
