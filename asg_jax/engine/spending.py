"""What a step costs, in token-forwards: tokens that go once through the network.

Sampling counts every token of every network evaluation, scoring what is read or scored without
being sampled, and an update four forwards for each token: the policy's, its gradient as two, and
the reference's. Texts count with all the room that they have: where a loop stops early, less is
spent. So methods can be compared at an equal budget, whatever they spend it on.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from asg_jax.backbone import Prompt, Sampler
from asg_jax.objectives.painter import DrawingLesson
from asg_jax.objectives.texts import TextLesson
from asg_jax.ops.flow import time_grid
from asg_jax.rollout.text import Texts

PASSES = 4  # of an update: forward, backward as two forwards, reference


def rows(request: Any) -> int:
    """Rows of the main prompts of a request, or of a bare prompt."""
    prompt = request if isinstance(request, Prompt) else request.prompts.main
    return prompt.ids.size


def text_tokens(texts: Texts, more: int = 0) -> int:
    """Tokens of texts, with room for more after each."""
    return texts.ids.size + more * math.prod(texts.ids.shape[:2])


def picture_tokens(values: jax.Array) -> int:
    """Image tokens of drawings, (..., tokens, channels)."""
    return math.prod(values.shape[:-1])


def evaluations(sampler: Sampler, kind: str) -> int:
    """How often each image token goes through the network while it is drawn, guidance included.

    The tokens of a next-scale drawing go through it once.
    """
    if kind == "bits":
        return 2 if sampler.guidance > 1 else 1
    grid, (low, high) = time_grid(sampler.steps, sampler.shift)[:-1], sampler.interval
    guided = (grid > low) & (grid <= high) if sampler.guidance > 1 else np.zeros(len(grid), bool)
    return sampler.steps + int(guided.sum())


def text_update(lesson: TextLesson) -> int:
    """Token-forwards of an update on texts."""
    said = lesson.said
    return PASSES * (rows(said.request) + said.texts.ids.size + said.rollout.ids.size)


def drawing_update(lesson: DrawingLesson, objective: Any, sampler: Sampler, kind: str) -> int:
    """Token-forwards of an update on drawings; an older policy beside the others costs one more.

    Bits need no draws; those that were drawn with guidance are learned from in its two branches.
    """
    by_steps = objective.name == "flow_grpo" or getattr(objective, "likelihood", "") == "steps"
    if kind == "bits":
        times = evaluations(sampler, kind)
    else:
        times = sampler.steps - 1 if by_steps else getattr(objective, "draws", 1)
    tokens = rows(lesson.request) + times * picture_tokens(lesson.drawn.values)
    return (PASSES + objective.anchored) * tokens
