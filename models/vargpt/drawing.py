"""Image sampling of VARGPT-v1.1: prompts of the visual decoder, and the steps from scale to scale.

Each scale goes through the language model as text after the prompt, then through the visual
decoder, which yields two logits for every bit. (VARGPT-v1.1, arXiv 2504.02949, section 3.)
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from asg_jax.backbone import BitsTrace, Prefix, Prompt, Sampler, State
from asg_jax.models.layers.attention import Block
from asg_jax.models.layers.context import interleave, join_prefixes, prefill_states, prefix_block
from asg_jax.models.vargpt.config import VargptConfig
from asg_jax.models.vargpt.decoder import KeysValues
from asg_jax.models.vargpt.model import Branch, Vargpt
from asg_jax.models.vargpt.quantizer import grow, scale_inputs
from asg_jax.models.vargpt.scales import Schedule
from asg_jax.pytree import pytree


@pytree
class Condition:
    """Prompts, and the absent prompts that guidance compares them with."""

    main: Branch
    absent: Branch


@pytree
class Rollout:
    """A picture between two scales.

    Attributes:
      total: codes of the scales so far, summed.
      language: keys and values of their tokens in the language model; None where it forgets them.
      decoder: keys and values in the visual decoder.
    """

    total: Float[Array, "B G H W bits"]
    language: KeysValues | None
    decoder: KeysValues


def condition(model: Vargpt, prompt: Prompt) -> Condition:
    """Prompts that end in the token that starts a picture; a fully masked one is absent."""
    prefix, hidden = prefill_states(model.language, prompt)
    rows = model.from_language(hidden).astype(model.config.decoder.dtype)
    missing = ~prompt.mask.any(-1)
    # The decoder reads everything before the last token.
    last = jnp.where(prompt.mask, prompt.order, -1).max(-1, keepdims=True)
    seen = prompt.mask & (prompt.order < last)
    none = absent_branch(model, prefix, seen.sum(-1))
    # Alone, an absent prompt takes all rows that there are.
    alone = jnp.where(missing[:, None], jnp.arange(seen.shape[1]) < _table(model), seen)
    rows = jnp.where(missing[:, None, None], model.decoder.absent_rows(rows.shape[1]), rows)
    main = Branch(prefix, _context(model, rows, alone), model.decoder.modulation(missing))
    return Condition(main, none)


def absent_branch(model: Vargpt, like: Prefix, length: Int[Array, " B"]) -> Branch:
    """The branch without a prompt: `length` rows of a table instead, an empty prefix."""
    batch, rows = like.mask.shape
    table = model.decoder.absent_rows(rows)
    seen = jnp.arange(rows) < jnp.minimum(length, _table(model))[:, None]
    context = _context(model, jnp.broadcast_to(table, (batch, *table.shape)), seen)
    nothing = jax.tree.map(jnp.zeros_like, like)
    return Branch(nothing, context, model.decoder.modulation(jnp.ones(batch, bool)))


def forgetful(condition: Condition) -> Condition:
    """The condition under which the official training draws.

    Its language model sees neither the prompt nor coarser scales. The prompt, which need not end
    in the token that starts a picture, acts through the visual decoder alone.
    """
    forget = lambda branch: replace(branch, prefix=None)
    return Condition(forget(condition.main), forget(condition.absent))


def _table(model: Vargpt) -> int:
    return model.config.decoder.text_rows


def _context(model: Vargpt, rows: Float[Array, "B T C"], seen: Bool[Array, "B T"]) -> Block:
    keys, values = model.decoder.context(rows)
    return Block(keys, values, seen[:, None, None])


def guided_branch(condition: Condition) -> Branch:
    """Both branches in one batch: each prompt, then the absent one beside it."""

    main, absent = condition.main, condition.absent
    one, other = main.context, absent.context
    assert isinstance(one.mask, jax.Array) and isinstance(other.mask, jax.Array)  # by `_context`
    context = Block(
        interleave([one.keys, other.keys], 1),
        interleave([one.values, other.values], 1),
        interleave([one.mask, other.mask], 0),
    )
    prefix = None
    if main.prefix is not None and absent.prefix is not None:
        prefix = join_prefixes([main.prefix, absent.prefix])
    both = lambda *parts: interleave(parts, 0)
    return Branch(prefix, context, jax.tree.map(both, main.modulation, absent.modulation))


def branch_of(condition: Condition, sampler: Sampler) -> Branch:
    """What a sampler draws from: the prompts, with guidance beside absent ones."""
    return guided_branch(condition) if sampler.guidance > 1 else condition.main


def start(
    config: VargptConfig, condition: Condition, keys: Key[Array, "B G"], sampler: Sampler
) -> State:
    """No scale yet; the caches have room for all of them."""
    schedule = config.schedule(sampler.grid)
    batch, samples = keys.shape
    rows = batch * (2 if sampler.guidance > 1 else 1)
    shape = (batch, samples, schedule.length, config.vae.bits)

    def room(layers: int, heads: int, width: int, dtype: str) -> KeysValues:
        empty = jnp.zeros((layers, rows, samples, schedule.length, heads, width), dtype)
        return empty, empty

    language, decoder = config.language, config.decoder
    remembered = None
    if condition.main.prefix is not None:
        remembered = room(language.layers, language.kv_heads, language.head_width, language.dtype)
    inner = Rollout(
        total=jnp.zeros((batch, samples, *schedule.grid, config.vae.bits)),
        language=remembered,
        decoder=room(decoder.layers, decoder.heads, decoder.width // decoder.heads, decoder.dtype),
    )
    return State(inner, keys, BitsTrace(jnp.zeros(shape, jnp.int32), jnp.zeros(shape)))


def step(model: Vargpt, condition: Condition, state: State, scale: int, sampler: Sampler) -> State:
    """Draws the bits of one scale; their log-probs are those of the sampled distribution."""
    schedule = model.config.schedule(sampler.grid)
    logits, inner = scale_logits(model, condition, state.inner, scale, sampler)
    log_probs = bit_log_probs(logits, sampler)
    shape = logits.shape[2:4]
    uniform = jax.vmap(
        jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, scale), shape))
    )
    bits = choose(log_probs, uniform(state.keys))
    chosen = jnp.take_along_axis(log_probs, bits[..., None], axis=-1)[..., 0]
    write = lambda old, new: jax.lax.dynamic_update_slice_in_dim(
        old, new, schedule.starts[scale], axis=2
    )
    trace = trace_of(state)
    return replace(
        state,
        inner=commit(inner, bits, schedule, scale),
        trace=BitsTrace(write(trace.bits, bits), write(trace.log_probs, chosen)),
    )


def trace_of(state: State) -> BitsTrace:
    """The bits of a state and their log-probs."""
    assert isinstance(state.trace, BitsTrace)
    return state.trace


def commit(
    rollout: Rollout, bits: Int[Array, "B G n bits"], schedule: Schedule, scale: int
) -> Rollout:
    """The rollout with the bits of a scale."""
    return replace(rollout, total=grow(rollout.total, bits, schedule.grids[scale]))


def bit_log_probs(logits: Float[Array, "*batch 2"], sampler: Sampler) -> Float[Array, "*batch 2"]:
    """The distribution that bits are drawn from, of guided logits at the sampler's temperature.

    The less likely value falls away where its probability is at most 1 - top_p.
    """
    log_probs = jax.nn.log_softmax(logits)
    if sampler.top_p >= 1:
        return log_probs
    rare = (log_probs < log_probs[..., ::-1]) & (jnp.exp(log_probs) <= 1 - sampler.top_p)
    return jax.nn.log_softmax(jnp.where(rare, -jnp.inf, logits))


def choose(
    log_probs: Float[Array, "*batch 2"], uniform: Float[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """Bits from uniform numbers: 1 where they are not below the probability of 0."""
    return (uniform >= jnp.exp(log_probs[..., 0])).astype(jnp.int32)


def scale_logits(
    model: Vargpt, condition: Condition, rollout: Rollout, scale: int, sampler: Sampler
) -> tuple[Float[Array, "B G n bits 2"], Rollout]:
    """Logits of one scale as they are sampled; the caches grow."""
    schedule = model.config.schedule(sampler.grid)
    branch = branch_of(condition, sampler)
    part, levels = schedule.part(scale), schedule.levels[schedule.part(scale)]
    hidden, language = language_step(model, branch, rollout, scale, schedule)
    past = jax.tree.map(lambda x: x[:, :, :, : part.start], rollout.decoder) if scale else None
    x, new = model.decoder.run(
        model.decoder_tokens(hidden, levels),
        branch.modulation,
        model.angles(schedule)[part],
        branch.context,
        past=past,
    )
    decoder = jax.tree.map(lambda x, y: _write(x, y, part.start), rollout.decoder, new)
    logits = guided_logits(model.decoder.logits(x, branch.modulation), sampler)
    return logits, replace(rollout, language=language, decoder=decoder)


def guided_logits(
    logits: Float[Array, "B1 G n bits 2"], sampler: Sampler
) -> Float[Array, "B G n bits 2"]:
    """Logits of a sampler's branches, divided by its temperature, then joined.

    With guidance c they are c main + (1 - c) absent.
    """
    logits = logits / sampler.temperature
    if sampler.guidance <= 1:
        return logits
    main, absent = logits[0::2], logits[1::2]
    return sampler.guidance * main + (1 - sampler.guidance) * absent


def language_step(
    model: Vargpt, branch: Branch, rollout: Rollout, scale: int, schedule: Schedule
) -> tuple[Float[Array, "B2 G n D"], KeysValues | None]:
    """States of one scale's tokens for every row of the branch, and the grown cache."""
    tokens = _tokens(model, branch, rollout, scale, schedule)
    rows = branch.modulation.first.shape[0]
    if branch.prefix is None:
        # Without a past all branches read the same, but for the first token: one pass serves all.
        hidden, _ = language_scale(model, tokens, None, None, schedule, scale)
        return jnp.repeat(hidden, rows // tokens.shape[0], axis=0), None
    tokens = jnp.repeat(tokens, rows // tokens.shape[0], axis=0)
    assert rollout.language is not None
    hidden, new = language_scale(model, tokens, branch.prefix, rollout.language, schedule, scale)
    write = lambda x, y: _write(x, y, schedule.starts[scale])
    return hidden, jax.tree.map(write, rollout.language, new)


def _tokens(
    model: Vargpt, branch: Branch, rollout: Rollout, scale: int, schedule: Schedule
) -> Float[Array, "B1 G n C"]:
    """Tokens of a scale: the condition's first one for each row, or the sum so far for each."""
    if scale:
        return model.decoder.embed(scale_inputs(rollout.total, schedule.grids[scale]))
    first = branch.modulation.first
    samples = rollout.total.shape[1]
    return jnp.broadcast_to(first[:, None, None], (first.shape[0], samples, 1, first.shape[-1]))


def language_scale(
    model: Vargpt,
    tokens: Float[Array, "B G n C"],
    prefix: Prefix | None,
    cache: KeysValues | None,
    schedule: Schedule,
    scale: int,
) -> tuple[Float[Array, "B G n D"], tuple[Array, ...]]:
    """One scale as text after its prompt and the coarser scales, or after nothing at all."""
    count, begin = schedule.counts[scale], schedule.starts[scale]
    offset, past = jnp.zeros(tokens.shape[0], jnp.int32), ()
    if prefix is not None and cache is not None:
        present = prefix.mask.any(-1)
        offset = jnp.where(present, prefix.position + begin, 0)
        mask = jnp.broadcast_to(present[:, None, None, None], (tokens.shape[0], 1, 1, begin))
        keys, values = (x[:, :, :, :begin] for x in cache)
        past = (prefix_block(prefix), Block(keys, values, mask))
    positions = jnp.broadcast_to(
        (offset[:, None] + jnp.arange(count))[:, None, :, None], (*tokens.shape[:3], 1)
    )
    causal = jnp.tril(jnp.ones((count, count), bool))[None, None]
    rows = (model.to_language(tokens.astype(model.config.language.dtype)),)
    (hidden,), new = model.language(rows, positions, causal, past)
    return hidden, new


def _write(cache: Array, new: Array, begin: int) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(cache, new.astype(cache.dtype), begin, axis=3)
