"""What every objective gives: the loss of each sample, and what was measured on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

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


class Objective:
    """What holds of an objective whatever its numbers are.

    Attributes:
      name: how settings call it.
      kinds: backbones that it trains (`asg_jax.backbone.Spec.kind`), if it learns from drawings.
      imitates: whether it learns from the best sample of a group alone.
      anchored: whether it also needs the factors of an older policy.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ("flow", "bits")
    imitates: ClassVar[bool] = False
    anchored: ClassVar[bool] = False
