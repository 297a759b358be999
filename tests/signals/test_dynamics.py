"""Learning dynamics on a small network: the kernel, and a real step of gradient descent."""

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.signals.dynamics import delta_generation, delta_understanding, kernel_blocks
from asg_jax.signals.likelihood import bayes_weights

RNG = np.random.default_rng(0)
PARAMS = {"a": jnp.asarray(RNG.normal(size=(3, 5))), "b": jnp.asarray(RNG.normal(size=(5, 4)))}
X, U = (jnp.asarray(RNG.normal(size=(n, 3))) for n in (2, 3))
X_IDS, U_IDS = jnp.array([1, 3]), jnp.array([0, 2, 3])
logits = lambda rows: lambda params: jnp.tanh(rows @ params["a"]) @ params["b"]


def test_blocks_are_products_of_jacobians():
    flat = lambda rows: jnp.concatenate(
        [x.reshape(*x.shape[:2], -1) for x in jax.tree.leaves(jax.jacobian(logits(rows))(PARAMS))],
        axis=-1,
    )
    want = jnp.einsum("kvp,rwp->krvw", flat(X), flat(U))
    np.testing.assert_allclose(kernel_blocks(logits(X), logits(U), PARAMS), want, rtol=1e-4)


def test_a_real_step_changes_what_the_kernel_predicts():
    def likelihood(rows, ids, params):
        log_probs = jax.nn.log_softmax(logits(rows)(params))
        return jnp.take_along_axis(log_probs, ids[:, None], axis=-1).sum()

    slope = jax.grad(lambda params: -likelihood(U, U_IDS, params))(PARAMS)
    kernel = kernel_blocks(logits(X), logits(U), PARAMS)
    softmax = lambda rows: jax.nn.softmax(logits(rows)(PARAMS))
    rate = 1e-3
    after = jax.tree.map(lambda p, g: p - rate * g, PARAMS, slope)
    measured = likelihood(X, X_IDS, after) - likelihood(X, X_IDS, PARAMS)
    predicted = delta_generation(softmax(X), X_IDS, softmax(U), U_IDS, kernel, rate)
    np.testing.assert_allclose(predicted, measured, rtol=0.05)


def test_understanding_follows_from_the_changes_of_all_prompts():
    before, changes = jnp.array([-3.0, -2.0, -4.0]), 1e-2 * jnp.array([1.0, -2.0, 0.5])
    measured = jnp.log(bayes_weights(before + changes)) - jnp.log(bayes_weights(before))
    for n in range(3):
        predicted = delta_understanding(changes, bayes_weights(before), n)
        np.testing.assert_allclose(predicted, measured[n], rtol=0.05)
