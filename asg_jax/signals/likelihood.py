"""How likely one side of a pair is given the other: rewards that need no sampling.

SUDER (arXiv 2506.07963) rewards a caption by the likelihood of the picture, and a picture by that
of its prompt; GvU (arXiv 2603.06043) takes the exponential of the latter. Natural logarithms.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.ops.masked import masked_mean


class Estimate(NamedTuple):
    """A mean over S random draws that all samples of a group share.

    Attributes:
      mean: average over the draws of each sample.
      variance: how unsure the mean is, less what the group has in common; what ranks a group is as
        sure as this. NaN for a single draw.
      alone: how unsure the mean is in all, as draws of its own would leave each sample.
    """

    mean: Float[Array, "*batch G"]
    variance: Float[Array, "*batch"]
    alone: Float[Array, "*batch"]


def mean_log_prob(
    log_probs: Float[Array, "*batch T"], mask: Bool[Array, "*#batch #T"]
) -> Float[Array, "*batch"]:
    """Log-likelihood per token, in nats; 0 without tokens. (SUDER, both directions.)"""
    return masked_mean(log_probs, mask, axis=-1)


def token_probability(
    log_probs: Float[Array, "*batch T"], mask: Bool[Array, "*#batch #T"]
) -> Float[Array, "*batch"]:
    """Geometric mean of the tokens' probabilities, in (0, 1]; long texts do not underflow.

    (GvU, intrinsic reward.)
    """
    return jnp.exp(mean_log_prob(log_probs, mask))


def velocity_likelihood(
    prediction: Float[Array, "*batch L C"], goal: Float[Array, "*#batch L C"]
) -> Float[Array, "*batch"]:
    """Stands in for the log-likelihood of a picture under a flow: minus the mean squared error.

    It is that of a Gaussian of variance 1/2 around the velocity, per element and up to a constant.
    Pictures, or captions of one picture, compare only at the same times and noise.

    Args:
      prediction: velocity of the model at a noisy version of the picture.
      goal: noise - picture.
    """
    return -((prediction - goal) ** 2).mean((-2, -1))


def estimate(values: Float[Array, "*batch G S"]) -> Estimate:
    """The mean over draws, and how sure it is.

    Args:
      values: what S shared draws found for each of G samples.
    """
    draws = values.shape[-1]
    centred = values - values.mean(-2, keepdims=True)
    spread = lambda x: jnp.var(x, axis=-1, ddof=1).mean(-1) / draws
    if draws == 1:
        unknown = jnp.full(values.shape[:-2], jnp.nan)
        return Estimate(values.mean(-1), unknown, unknown)
    return Estimate(values.mean(-1), spread(centred), spread(values))


def pmi(
    conditional: Float[Array, "*batch"], unconditional: Float[Array, "*#batch"]
) -> Float[Array, "*batch"]:
    """Pointwise mutual information: what the condition adds to a log-likelihood.

    Within a group that shares what is scored it moves nothing; across groups it takes off what
    makes a text or a picture likely by itself.
    """
    return conditional - unconditional


def bayes_gap(
    image_given_text: Float[Array, "*batch"],
    text: Float[Array, "*#batch"],
    text_given_image: Float[Array, "*#batch"],
    image: Float[Array, "*#batch"],
) -> Float[Array, "*batch"]:
    """log p(x|y) + log p(y) - log p(y|x) - log p(x), 0 for a model whose two sides agree."""
    return image_given_text + text - text_given_image - image


def bayes_weights(log_likelihoods: Float[Array, "*batch Y"]) -> Float[Array, "*batch Y"]:
    """p(y | x) of competing prompts under a flat prior, from log p(x | y).

    (Internal Gap, arXiv 2507.16663, learning dynamics of understanding.)
    """
    return jax.nn.softmax(log_likelihoods, axis=-1)
