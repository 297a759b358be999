"""Log-prob, entropy and KL over a large vocabulary, from hidden states, block by block.

`token_stats` walks over blocks of time and its backward pass recomputes a block's logits instead of
keeping them, so a (batch, time, vocab) array never exists. The statistics are defined once, in
`logit_stats`, which a sampler calls on the logits that it draws from.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, P, lax
from jaxtyping import Float, Int

from asg_jax.ops.matmul import matmul_float32

# float32 logits of one block on one device: 165 tokens of a 152k vocabulary. About as many tokens
# are needed for a matmul to take longer than reading the unembedding from memory.
_BLOCK_BYTES = 96 * 2**20


class TokenStats(NamedTuple):
    """Statistics of every token, float32, (*batch, time); natural logarithms.

    Attributes:
        log_prob: ln p_T(id), where p_T = softmax(logits / temperature) is the sampling policy.
        plain_log_prob: ln p(id) under the full softmax p at temperature 1.
        entropy: - sum_v p ln p at temperature 1, in nats.
        kl: KL(p || p_ref) = sum_v p (ln p - ln p_ref) at temperature 1, in nats; None without a
            reference.
        reference_log_prob: ln p_T(id) under the reference; None without a reference.
    """

    log_prob: Array
    plain_log_prob: Array
    entropy: Array
    kl: Array | None = None
    reference_log_prob: Array | None = None


def unembed(
    hidden: Float[Array, "*tokens dim"], unembedding: Float[Array, "vocab dim"]
) -> Float[Array, "*tokens vocab"]:
    """Returns float32 logits: a matmul in the dtype of `hidden`, summed in float32."""
    return matmul_float32(hidden, unembedding, -1)


def _shift(logits: Array) -> Array:
    """Subtracts the maximum, which leaves every softmax as it is."""
    return logits - lax.stop_gradient(logits.max(-1, keepdims=True))


def _log_total(shifted: Array) -> Array:
    return jnp.log(jnp.exp(shifted).sum(-1))


def _choose(logits: Array, ids: Array) -> Array:
    # A masked sum fuses with the others and stays local where the vocabulary is sharded; the
    # gradient of a gather would be a scatter into a dense array.
    return jnp.where(ids[..., None] == jnp.arange(logits.shape[-1]), logits, 0).sum(-1)


def _log_prob(shifted: Array, ids: Array, temperature: Array) -> Array:
    return _choose(shifted, ids) / temperature - _log_total(shifted / temperature[..., None])


def logit_stats(
    logits: Float[Array, "*tokens vocab"],
    ids: Int[Array, "*tokens"],
    *,
    temperature: float | Float[Array, "*#tokens"] = 1.0,
    reference: Float[Array, "*tokens vocab"] | None = None,
) -> TokenStats:
    """Returns the statistics of tokens whose logits are at hand.

    Args:
        logits: float32 logits of the policy.
        ids: The tokens whose log-probs are asked for.
        temperature: Of the sampling policy; one number, or anything that broadcasts to `ids`.
        reference: float32 logits of the reference; no gradient flows into them.
    """
    temperature = jnp.asarray(temperature, jnp.float32)
    shifted = _shift(logits)
    log_total = _log_total(shifted)
    probs = jnp.exp(shifted - log_total[..., None])
    log_prob = _log_prob(shifted, ids, temperature)
    plain_log_prob = _choose(shifted, ids) - log_total
    entropy = log_total - (probs * shifted).sum(-1)
    if reference is None:
        return TokenStats(log_prob, plain_log_prob, entropy)
    other = _shift(lax.stop_gradient(reference))
    kl = (probs * (shifted - other)).sum(-1) - log_total + _log_total(other)
    reference_log_prob = _log_prob(other, ids, temperature)
    return TokenStats(log_prob, plain_log_prob, entropy, kl, reference_log_prob)


def _gather_rows(unembedding: Array) -> Array:
    """Makes an unembedding sharded over `dim` whole there; it may stay sharded over `vocab`.

    Left alone, XLA would gather it, and the gradients of the logits, anew in every block.
    """
    if not jax.sharding.get_abstract_mesh().auto_axes:
        return unembedding
    return lax.with_sharding_constraint(unembedding, P(P.UNCONSTRAINED, None))


def _default_block(rows: int, vocab: int) -> int:
    """Returns how many time steps of `rows` sequences make one block."""
    mesh = jax.sharding.get_abstract_mesh()
    devices = math.prod(mesh.shape[axis] for axis in mesh.auto_axes)  # they share the block
    return max(1, devices * _BLOCK_BYTES // max(1, 4 * rows * vocab))


def _split(x: Array, axis: int, count: int, size: int) -> Array:
    """Pads time and cuts it: (*batch, time, ...) to (count, *batch, size, ...)."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, count * size - x.shape[axis])
    blocks = jnp.pad(x, padding).reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
    return jnp.moveaxis(blocks, axis, 0)


def _join(blocks: Array, time: int) -> Array:
    """Undoes `_split` for one number per token: (count, *batch, size) to (*batch, time)."""
    blocks = jnp.moveaxis(blocks, 0, -2)
    return blocks.reshape(*blocks.shape[:-2], -1)[..., :time]


@functools.partial(jax.jit, static_argnames="block")
def token_stats(
    hidden: Float[Array, "*batch time dim"],
    unembedding: Float[Array, "vocab dim"],
    ids: Int[Array, "*batch time"],
    *,
    temperature: float | Float[Array, "*#batch"] = 1.0,
    reference: tuple[Float[Array, "*batch time dim"], Float[Array, "vocab dim"]] | None = None,
    block: int | None = None,
) -> TokenStats:
    """Returns the statistics of tokens from the final hidden states that predict them.

    The matmuls run in the dtype of `hidden`, everything else in float32. Statistics that are not
    used cost nothing once compiled, the reference's matmul included. Each position is on its own:
    values at padding (any id will do) touch no other position.

    Blocks cut time, so a sharded batch stays as it is. An unembedding sharded over the vocabulary
    stays so too; one sharded over `dim` is gathered once, in a program traced under `jax.set_mesh`.

    The definitions are those of Ask, Solve, Generate (arXiv 2606.27376): sampling, ratio and k3
    under softmax(logits / temperature); entropy and KL to the frozen model over the full vocabulary
    at temperature 1.

    Args:
        hidden: Final (normalised) hidden states, bfloat16 or float32; row t predicts ids[..., t].
        unembedding: The output matrix. Where it is trained, keep it in float32, because the blocks
            of its gradient are summed in its own dtype.
        ids: The tokens whose log-probs are asked for.
        temperature: Of the sampling policy; one number, or one per sequence.
        reference: Hidden states and unembedding of the frozen model; no gradient flows into them.
        block: Time steps per block. By default a block's logits fill 96 MiB of every device of the
            mesh set by `jax.set_mesh`, or of a single device where none is set.
    """
    time, axis = ids.shape[-1], ids.ndim - 1
    block = block or _default_block(math.prod(ids.shape[:-1]), unembedding.shape[0])
    count = max(1, math.ceil(time / block))
    size = math.ceil(time / count)  # blocks of equal size need the least padding
    temperature = jnp.asarray(temperature)[..., None]
    other, other_unembedding = reference if reference else (None, None)
    unembedding, other_unembedding = jax.tree.map(_gather_rows, (unembedding, other_unembedding))

    def step(carry: None, xs: tuple[Array, Array, Array | None]) -> tuple[None, TokenStats]:
        hidden, ids, other = xs
        logits = unembed(hidden, unembedding)
        other_logits = None if other is None else unembed(other, other_unembedding)
        stats = logit_stats(logits, ids, temperature=temperature, reference=other_logits)
        return carry, stats

    xs = jax.tree.map(lambda x: _split(x, axis, count, size), (hidden, ids, other))
    # Inside a scan nothing is shared between iterations, so no barrier is needed against it.
    _, stats = lax.scan(jax.checkpoint(step, prevent_cse=False), None, xs)
    return jax.tree.map(lambda x: _join(x, time), stats)
