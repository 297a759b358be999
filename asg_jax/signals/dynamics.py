"""What one update of some picture does to others, by the empirical neural tangent kernel.

Internal Gap (arXiv 2507.16663), learning dynamics: a step of stochastic gradient descent on the
cross-entropy of one picture changes log-likelihoods of all pictures to first order through blocks
of the kernel K = (d logits / d parameters)(d logits / d parameters)^T. M and R count the tokens of
the observed and of the trained picture, V the values of a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

PyTree = Any
Logits = Callable[[PyTree], Float[Array, "T V"]]


def kernel_blocks(observed: Logits, trained: Logits, params: PyTree) -> Float[Array, "M R V V"]:
    """Blocks K[k, r] between the logits of two pictures, exact.

    A vector-Jacobian product pulls each logit of the observed picture back to the parameters, and
    a Jacobian-vector product pushes that gradient forward to the trained one, so that no Jacobian
    is ever held.

    Args:
      observed: parameters -> logits of the picture that is looked at.
      trained: the same of the picture that is trained on.
      params: where the kernel is taken; any pytree.
    """
    logits, pull = jax.vjp(observed, params)
    push = lambda tangent: jax.jvp(trained, (params,), (tangent,))[1]
    one = lambda cotangent: push(pull(cotangent)[0])
    basis = jnp.eye(logits.size, dtype=logits.dtype).reshape(-1, *logits.shape)
    rows = jax.lax.map(one, basis)
    return rows.reshape(*logits.shape, *rows.shape[1:]).swapaxes(1, 2)


def delta_generation(
    observed: Float[Array, "M V"],
    observed_ids: Int[Array, " M"],
    trained: Float[Array, "R V"],
    trained_ids: Int[Array, " R"],
    kernel: Float[Array, "M R V V"],
    rate: float | Float[Array, ""],
) -> Float[Array, ""]:
    """Change of the observed picture's log-likelihood, in nats.

    -rate sum_kr (e_k - p_k)^T K_kr (p_r - e_r), with p the distribution and e the token.

    Args:
      observed: probabilities of every token before the step.
      observed_ids: its tokens.
      trained: the same of the picture that is trained on.
      trained_ids: its tokens.
      kernel: see `kernel_blocks`.
      rate: step size of plain gradient descent on the sum of the trained tokens' cross-entropies.
    """
    one_hot = lambda ids, p: jax.nn.one_hot(ids, p.shape[-1], dtype=p.dtype)
    pull = one_hot(observed_ids, observed) - observed
    push = trained - one_hot(trained_ids, trained)
    return -rate * jnp.einsum("kv,krvw,rw->", pull, kernel, push, precision="highest")


def delta_understanding(
    changes: Float[Array, " Y"], weights: Float[Array, " Y"], index: int | Int[Array, ""]
) -> Float[Array, ""]:
    """Change of log p(y | x) by Bayes' rule, from those of log p(x | y) of all competing prompts.

    Args:
      changes: how the picture's log-likelihood under every prompt changed, in nats.
      weights: shares of the prompts, see `likelihood.bayes_weights`.
      index: place of the prompt that is asked about.
    """
    return (weights * (changes[index] - changes)).sum()
