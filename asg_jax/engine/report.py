"""Numbers that tell how a step went, and the control that tells luck from learning."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from asg_jax.engine.roles import Metrics
from asg_jax.ops.masked import masked_mean


def shuffle(
    rewards: Float[Array, "*batch"], mask: Bool[Array, "*batch"], key: Key[Array, ""]
) -> Float[Array, "*batch"]:
    """Rewards dealt at random among the samples that the mask keeps: what no signal could teach."""
    flat, kept = rewards.ravel(), mask.ravel()
    drawn = jnp.where(kept, jax.random.uniform(key, flat.shape), 2)
    places = jnp.argsort(~kept, stable=True)  # those that are kept come first in both orders
    return flat.at[places].set(flat[jnp.argsort(drawn, stable=True)]).reshape(rewards.shape)


def spread(name: str, rewards: Float[Array, "B G"], mask: Bool[Array, "B G"]) -> Metrics:
    """Mean and standard deviation of rewards, and the share of groups that teach nothing.

    Args:
      name: whose rewards they are.
      rewards: one number per sample, a group a row.
      mask: which of them count.
    """
    mean = masked_mean(rewards, mask)
    centred = rewards - masked_mean(rewards, mask, axis=-1)[..., None]
    flat = jnp.where(mask, jnp.abs(centred), 0).max(-1) < 1e-6
    return {
        f"reward/{name}": mean,
        f"reward/{name}_std": jnp.sqrt(masked_mean((rewards - mean) ** 2, mask)),
        f"reward/{name}_flat": share(flat, mask.any(-1)),
    }


def share(flags: Bool[Array, "*batch"], mask: Bool[Array, "*#batch"]) -> Float[Array, ""]:
    """How many of the items that the mask keeps have a flag, of 1."""
    return masked_mean(flags.astype(jnp.float32), mask)
