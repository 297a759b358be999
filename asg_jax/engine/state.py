"""Everything on devices that a run needs to go on bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Array, Float, Int

from asg_jax.backbone import Adapter, PyTree
from asg_jax.pytree import pytree


@pytree
class RoleState:
    """What one role has learned.

    Attributes:
      adapter: trained factors, float32.
      average: moving average of the factors over updates, which evaluation uses; None where
        nothing is averaged and the factors themselves are evaluated.
      optimizer: state of the Optax transformation; None of a role that stays as it is.
      kl_coefficient: adaptive weight of the drift from the frozen model, in [1e-3, 1e2].
    """

    adapter: Adapter
    average: Adapter | None
    optimizer: PyTree
    kl_coefficient: Float[Array, ""]

    @property
    def evaluated(self) -> Adapter:
        """The factors that a judgement or an export takes."""
        return self.adapter if self.average is None else self.average


@pytree
class TrainState:
    """A run between two steps.

    Attributes:
      seed: source of every random number.
      step: steps that were taken.
      roles: role name -> what it has learned.
      skipped: updates that were left out because they were not finite.
      memory: running numbers of the method, in a type of its own.
    """

    seed: Int[Array, ""]
    step: Int[Array, ""]
    roles: Mapping[str, RoleState]
    skipped: Int[Array, ""]
    memory: PyTree
