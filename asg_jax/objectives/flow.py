"""Updates of a rectified-flow generator from the rewards of images that it drew.

`rwr` and `nft` work on the flow-matching error of the drawn images, `flow_grpo` on the recorded
steps of a stochastic sampler. A loss is that of every image; the loss of a batch is their mean.
Convention: x_t = (1 - t) data + t noise, and predictions and goals
are velocities, noise - data. B prompts, G images each, L tokens, C channels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.objectives.policy_gradient import grpo_loss
from asg_jax.ops.flow import gaussian_log_prob
from asg_jax.ops.masked import Scalar


def mean_square(x: Float[Array, "*batch L C"]) -> Float[Array, "*batch"]:
    """Mean of the squares over the tokens and channels of an image."""
    return (x**2).mean((-2, -1))


def drift(
    prediction: Float[Array, "*batch L C"], frozen: Float[Array, "*batch L C"]
) -> Float[Array, "*batch"]:
    """How far a velocity has moved from the frozen model's at the same noisy image."""
    return mean_square(prediction - jax.lax.stop_gradient(frozen))


def rwr_weights(
    advantages: Float[Array, "*batch G"], mask: Bool[Array, "*#batch #G"], tau: Scalar = 1.0
) -> Float[Array, "*batch G"]:
    """Weights of a group's images: G softmax(advantages / tau), so that their mean is 1.

    (Reward-weighted regression; Ask, Solve, Generate, arXiv 2606.27376, generation step.)

    Args:
      advantages: those within the group.
      mask: which images exist; the others weigh 0, and G is the number of those that do.
      tau: temperature.
    """
    mask = jnp.broadcast_to(mask, advantages.shape)
    share = jax.nn.softmax(advantages / tau, axis=-1, where=mask)
    return mask.sum(-1, keepdims=True) * jnp.where(mask, share, 0)


def rwr_loss(
    prediction: Float[Array, "B G L C"],
    goal: Float[Array, "B G L C"],
    frozen: Float[Array, "B G L C"],
    advantages: Float[Array, "B G"],
    mask: Bool[Array, "B G"],
    beta: Scalar,
    tau: Scalar = 1.0,
) -> Float[Array, "B G"]:
    """Flow matching on the drawn images, the better ones with more weight.

    Args:
      prediction: velocity of the policy at noisy versions of the images.
      goal: what it should have predicted.
      frozen: velocity of the frozen model there.
      advantages: those within each group.
      mask: which images exist, and share the weights of their group.
      beta: coefficient of the drift from the frozen model.
      tau: see `rwr_weights`.
    """
    weights = jax.lax.stop_gradient(rwr_weights(advantages, mask, tau))
    error = weights * mean_square(prediction - goal)
    return error + beta * drift(prediction, frozen)


def nft_weight(advantages: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Share of the positive branch of `nft_loss`; at 1/2 an image only anchors."""
    return jnp.clip(0.5 + 0.25 * advantages, 0, 1)


def nft_loss(
    prediction: Float[Array, "B G L C"],
    old: Float[Array, "B G L C"],
    goal: Float[Array, "B G L C"],
    frozen: Float[Array, "B G L C"],
    t: Float[Array, "B G"],
    advantages: Float[Array, "B G"],
    beta: Scalar,
) -> Float[Array, "B G"]:
    """Pulls the policy towards good images and, mirrored at the old policy, away from bad ones.

    r D(x) + (1 - r) D(2 x_old - x), where x = x_t - t v is the predicted clean image and D the mean
    squared distance to the drawn one; since x - x_0 = t (goal - v), velocities say it all. Neither
    branch can fall below 0. (DiffusionNFT, arXiv 2509.16117.)

    Args:
      prediction: velocity of the policy at noisy versions of the images.
      old: velocity of the policy's moving average there.
      goal: what they should have predicted.
      frozen: velocity of the frozen model there.
      t: time of the noisy images.
      advantages: those within each group; r is their `nft_weight`.
      beta: coefficient of the drift from the frozen model.
    """
    old = jax.lax.stop_gradient(old)
    positive = t**2 * mean_square(prediction - goal)
    negative = t**2 * mean_square(2 * old - prediction - goal)
    r = jax.lax.stop_gradient(nft_weight(advantages))
    error = r * positive + (1 - r) * negative
    return error + beta * drift(prediction, frozen)


def step_kl(
    mean: Float[Array, "*batch L C"], frozen_mean: Float[Array, "*batch L C"], std: Scalar
) -> Float[Array, "*batch"]:
    """KL of a sampling step to the frozen model's, per element; 0 where the step has no noise."""
    noisy = jnp.asarray(std) > 0
    kl = drift(mean, frozen_mean) / (2 * jnp.where(noisy, std, 1) ** 2)
    return jnp.where(noisy, kl, 0)


def flow_grpo_loss(
    x_next: Float[Array, "S B G L C"],
    mean: Float[Array, "S B G L C"],
    frozen_mean: Float[Array, "S B G L C"],
    std: Float[Array, " S"],
    advantages: Float[Array, "B G"],
    mask: Bool[Array, "B G"],
    beta: Scalar,
    clip: Scalar,
) -> tuple[Float[Array, "B G"], Bool[Array, "B G"]]:
    """GRPO whose tokens are the S steps of a stochastic sampler. (Flow-GRPO, arXiv 2505.05470.)

    The rollout serves one update: the ratio is taken against the policy's own stopped value.

    Args:
      x_next: recorded latents after every step.
      mean: the policy's Gaussian at every step, from the recorded latents before it.
      frozen_mean: the same of the frozen model.
      std: deviation of both Gaussians (`ops.flow.sde_moments`); steps without noise do not count.
      advantages: those within each group.
      mask: which images exist.
      beta: coefficient of the KL to the frozen model.
      clip: how far the ratio may go from 1; log-probs are means over elements, which keep it close.
    """
    log_probs = jax.vmap(gaussian_log_prob)(x_next, mean, std)
    kl = jax.vmap(step_kl)(mean, frozen_mean, std)
    last = lambda x: jnp.moveaxis(x, 0, -1)
    counts = mask[..., None] & (std > 0)
    now = last(log_probs)
    stopped = jax.lax.stop_gradient(now)
    return grpo_loss(advantages, now, stopped, last(kl), counts, beta, clip)


def regional_loss(
    prediction: Float[Array, "*batch L C"],
    goal: Float[Array, "*batch L C"],
    weights: Float[Array, "*#batch L"],
    reference_goal: Float[Array, "*batch L C"],
    regularization: Scalar = 0.5,
) -> Float[Array, "*batch"]:
    """Flow matching weighted by how good each place of a picture is, and plain flow matching.

    (SRUM, arXiv 2510.12784. With one picture in both parts, as in self-training, this is
    distillation of itself with weights w + lambda.)

    Args:
      prediction: velocity of the policy at a noisy version of the rewarded picture.
      goal: noise - rewarded picture.
      weights: one number per image token; negative ones repel (`signals.regions.reward_map`).
      reference_goal: noise - reference picture.
      regularization: lambda, weight of the plain part.
    """
    rewarded = (weights[..., None] * (prediction - goal) ** 2).mean((-2, -1))
    return rewarded + regularization * mean_square(prediction - reference_goal)
