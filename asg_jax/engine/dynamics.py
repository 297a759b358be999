"""Learning dynamics of a model that draws bits: what an update on one drawing does to another.

The change that the empirical kernel predicts to first order, beside the change that one step of
gradient descent makes. (Internal Gap, arXiv 2507.16663, section on learning dynamics.)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from asg_jax.backbone import Adapter
from asg_jax.objectives.painter import DrawingLesson, Painter
from asg_jax.ops.bits import bit_log_probs
from asg_jax.signals.dynamics import (
    Logits,
    delta_generation,
    delta_understanding,
    kernel_blocks,
)
from asg_jax.signals.likelihood import bayes_weights


class Change(NamedTuple):
    """A change of a log-likelihood, in nats."""

    predicted: Float[Array, ""]
    measured: Float[Array, ""]


def bit_logits(painter: Painter, lesson: DrawingLesson, bits: int) -> Logits:
    """Logits of the first bits of a lesson's first drawing, as a function of the adapter."""
    return lambda adapter: painter.logits(lesson, adapter)[0, 0].reshape(-1, 2)[:bits]


def generation_change(
    painter: Painter,
    adapter: Adapter,
    observed: DrawingLesson,
    trained: DrawingLesson,
    bits: int,
    rate: float,
) -> Change:
    """Change of log p(observed drawing | its prompt) by a step on the trained drawing.

    Args:
      painter: a backbone of bits.
      adapter: what the step begins with.
      observed: its first drawing is looked at.
      trained: its first drawing is trained on.
      bits: first ones of either that count; the kernel has (2 bits)^2 entries.
      rate: step size of plain gradient descent, above 0.
    """
    look, learn = (bit_logits(painter, lesson, bits) for lesson in (observed, trained))
    x, u = (lesson.drawn.values[0, 0].ravel()[:bits] for lesson in (observed, trained))
    likelihood = lambda logits, ids: lambda adapter: bit_log_probs(logits(adapter), ids).sum()
    kernel = kernel_blocks(look, learn, adapter)
    before, pushed = (jax.nn.softmax(logits(adapter)) for logits in (look, learn))
    predicted = delta_generation(before, x, pushed, u, kernel, rate)
    slope = jax.grad(likelihood(learn, u))(adapter)
    after = jax.tree.map(lambda value, up: value + rate * up, adapter, slope)
    of_observed = likelihood(look, x)
    return Change(predicted, of_observed(after) - of_observed(adapter))


def understanding_changes(
    changes: Float[Array, " Y"], log_likelihoods: Float[Array, " Y"]
) -> Float[Array, " Y"]:
    """Changes of log p(y | x) of competing prompts, by Bayes' rule with a flat prior.

    Args:
      changes: how log p(x | y) changed in nats, predicted or measured.
      log_likelihoods: log p(x | y) before.
    """
    weights = bayes_weights(log_likelihoods)
    one = lambda index: delta_understanding(changes, weights, index)
    return jax.vmap(one)(jnp.arange(len(changes)))
