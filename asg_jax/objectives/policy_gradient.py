"""Policy gradients of sampled tokens: GRPO and REINFORCE, both with a KL penalty.

(Ask, Solve, Generate, arXiv 2606.27376; GRPO: arXiv 2402.03300.) T counts tokens, bits or sampling
steps. A loss is that of every sequence, the mean of its tokens, beside which sequences have any:
the loss of a batch is the mean over these (`ops.masked.masked_mean`), 0 without any.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.objectives.kl import LOG_BOUND
from asg_jax.ops.bounds import at_least, at_most
from asg_jax.ops.masked import Scalar, sequence_means

Means = tuple[Float[Array, "*batch"], Bool[Array, "*batch"]]
Clip = Scalar | tuple[Scalar, Scalar] | None  # on both sides; below and above 1; unbounded


def clipped_gain(
    advantages: Float[Array, "*#batch"], ratio: Float[Array, "*batch"], clip: Clip
) -> Float[Array, "*batch"]:
    """min(A r, A clip(r, 1 - c, 1 + c)): a ratio gains nothing beyond the bound on A's side."""
    if clip is None:
        return advantages * ratio
    low, high = clip if isinstance(clip, tuple) else (clip, clip)
    bounded = jnp.where(advantages > 0, at_most(ratio, 1 + high), at_least(ratio, 1 - low))
    return advantages * bounded


def grpo_loss(
    advantages: Float[Array, "*batch"],
    log_probs: Float[Array, "*batch T"],
    old_log_probs: Float[Array, "*batch T"],
    kl: Float[Array, "*batch T"],
    mask: Bool[Array, "*batch T"],
    beta: Scalar,
    clip: Clip = 0.2,
    weights: Float[Array, "*batch T"] | None = None,
) -> Means:
    """Clipped importance-weighted policy gradient with a KL penalty.

    Args:
      advantages: one for each sequence.
      log_probs: the trained policy's for the sampled tokens, in nats.
      old_log_probs: the same under the older policy of the ratio.
      kl: nats per token to the frozen model, `k3` or exact.
      mask: tokens that count, the drawn stop token included; none where a sequence is left out.
      beta: KL coefficient.
      clip: the ratio of the two policies acts within [1 - clip, 1 + clip], or between two bounds;
        None bounds nothing.
      weights: how much the gain of a token counts; all alike if None.
    """
    log_ratio = jnp.where(mask, log_probs - old_log_probs, 0)
    ratio = jnp.exp(at_most(log_ratio, LOG_BOUND))
    gain = clipped_gain(advantages[..., None], ratio, clip)
    gain = gain if weights is None else weights * gain
    return sequence_means(beta * kl - gain, mask)


def reinforce_loss(
    advantages: Float[Array, "*batch"],
    log_probs: Float[Array, "*batch T"],
    kl: Float[Array, "*batch T"],
    mask: Bool[Array, "*batch T"],
    beta: Scalar,
) -> Means:
    """Plain policy gradient with a KL penalty; arguments as in `grpo_loss`, the KL exact."""
    return sequence_means(beta * kl - advantages[..., None] * log_probs, mask)
