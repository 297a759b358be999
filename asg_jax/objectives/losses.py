"""What every objective gives: the loss of each sample, and what was measured on the way."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Array, Bool, Float

from asg_jax.pytree import pytree


@pytree
class Losses:
    """Losses of G samples of each of B examples; the loss of a batch is the mean of those kept.

    Because nothing is averaged over examples yet, any split of a batch gives the same gradient.

    Attributes:
      values: loss of each sample.
      kept: samples that count.
      drift: distance from the frozen model, in the unit that the objective names.
      measures: what people read, by name; one number a sample.
    """

    values: Float[Array, "B G"]
    kept: Bool[Array, "B G"]
    drift: Float[Array, "B G"]
    measures: Mapping[str, Float[Array, "B G"]]
