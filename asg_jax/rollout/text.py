"""Text rollouts: G samples of each prompt in one loop, and their teacher-forced log-probs.

The policy is softmax(logits / T); what is recorded while sampling is what an update needs. (Ask,
Solve, Generate, arXiv 2606.27376.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from asg_jax.backbone import Backbone, Cache, LoRA, Params, Prefix, Prompt
from asg_jax.ops.sampling import gumbel, truncate
from asg_jax.ops.vocab import TokenStats, logit_stats, token_stats, unembed
from asg_jax.pytree import pytree, static

ALIGNED = 8  # keys of a suffix are a multiple: cuBLAS would have them copied to one for every token


@pytree
class Texts:
    """G texts of each of B prompts, padded on the right."""

    ids: Int[Array, "B G T"]
    mask: Bool[Array, "B G T"]


@pytree
class TextSampler:
    """Settings of text sampling; one compiled program serves all temperatures.

    Attributes:
      temperature: 0 is greedy.
      max_tokens: N, the most tokens that are drawn.
      stop_ids: a text ends with the first of them that is drawn.
      top_k: 0 turns it off; None leaves it out of the program.
      top_p: nucleus, 1 turns it off; None leaves it out of the program.
    """

    temperature: Float[Array, "B G"]
    max_tokens: int = static()
    stop_ids: tuple[int, ...] = static()
    top_k: Int[Array, "B G"] | None = None
    top_p: Float[Array, "B G"] | None = None


@pytree
class TextRollout:
    """Sampled texts and the statistics of their tokens; natural logarithms, 0 at padding.

    Attributes:
      ids: drawn tokens, the stop token included; 0 at padding.
      mask: which tokens are real.
      log_probs: those of the distribution that was drawn from; 0 where that is greedy.
      plain_log_probs: those of softmax(logits).
      entropies: those of softmax(logits), in nats.
      temperature: divides the logits before sampling.
      steps: calls of `decode` that the loop made; the same for all rows that shared it.
    """

    ids: Int[Array, "B G N"]
    mask: Bool[Array, "B G N"]
    log_probs: Float[Array, "B G N"]
    plain_log_probs: Float[Array, "B G N"]
    entropies: Float[Array, "B G N"]
    temperature: Float[Array, "B G"]
    steps: Int[Array, "B G"]

    @property
    def texts(self) -> Texts:
        """What was sampled, without its statistics."""
        return Texts(self.ids, self.mask)


class SampledToken(NamedTuple):
    """One token of every sample, with its statistics."""

    token: Int[Array, "B G"]
    log_prob: Float[Array, "B G"]
    plain_log_prob: Float[Array, "B G"]
    entropy: Float[Array, "B G"]


class Joined(NamedTuple):
    """Texts and what was sampled after them, padded on the right."""

    ids: Int[Array, "B G T+N"]
    mask: Bool[Array, "B G T+N"]
    sampled: Bool[Array, "B G T+N"]


class _Loop(NamedTuple):
    rollout: TextRollout
    token: Int[Array, "B G"]
    live: Bool[Array, "B G"]  # no stop token yet
    length: Int[Array, ""]  # tokens drawn
    cache: Cache


def draw(
    logits: Float[Array, "B G V"], keys: Key[Array, "B G"], sampler: TextSampler
) -> SampledToken:
    """Draws a token of every sample (Gumbel-max); equal keys and logits give equal tokens."""
    temperature = _divisor(sampler.temperature)
    truncated = sampler.top_k is not None or sampler.top_p is not None
    if truncated:
        policy = truncate(logits, temperature, sampler.top_k, sampler.top_p)
    else:
        policy = logits / temperature[..., None]
    noise = jax.vmap(jax.vmap(lambda key: gumbel(key, logits.shape[-1])))(keys)
    greedy = sampler.temperature <= 0
    token = jnp.argmax(jnp.where(greedy[..., None], logits, policy + noise), axis=-1)
    stats = logit_stats(logits, token, temperature=temperature)
    log_prob = stats.log_prob
    if truncated:
        log_prob = jnp.take_along_axis(policy, token[..., None], axis=-1)[..., 0]
    return SampledToken(token, jnp.where(greedy, 0, log_prob), stats.plain_log_prob, stats.entropy)


def sample_text(
    backbone: Backbone,
    params: Params,
    prefix: Prefix,
    ids: Int[Array, "B G T"],
    mask: Bool[Array, "B G T"],
    keys: Key[Array, "B G"],
    sampler: TextSampler,
) -> TextRollout:
    """Samples a continuation of G texts on each prefix, until every one has drawn a stop token.

    A sample depends on its own prefix, text, key and settings alone, not on what else is in the
    batch or on the device. At most one token's logits (B, G, V) exist at a time.

    Args:
      backbone: static under jit.
      params: those of the role that speaks.
      prefix: prefilled prompts.
      ids: texts after the prefix, padded on the right; T may be 0.
      mask: which ids are real.
      keys: one for each sample; token n is drawn with `fold_in(key, n)`.
      sampler: settings.
    """
    unembedding = backbone.unembedding(params)
    params = _made_ready(params, prefix.hidden.dtype)

    def extend_by(hidden: Array, cache: Cache, loop: _Loop) -> _Loop:
        own = jax.vmap(jax.vmap(lambda key: jax.random.fold_in(key, loop.length)))(keys)
        drawn = draw(unembed(hidden, unembedding), own, sampler)
        stops = (drawn.token[..., None] == jnp.array(sampler.stop_ids, jnp.int32)).any(-1)
        return _Loop(
            rollout=_record(loop.rollout, drawn, loop.live, loop.length),
            token=drawn.token,
            live=loop.live & ~stops,
            length=loop.length + 1,
            cache=cache,
        )

    def more(loop: _Loop) -> Bool[Array, ""]:
        return (loop.length < sampler.max_tokens) & loop.live.any()

    def advance(loop: _Loop) -> _Loop:
        return extend_by(*backbone.decode(params, loop.token, loop.cache), loop)

    # The last token is never fed; a loop that never runs is still traced and needs a row.
    room = max(sampler.max_tokens - 1, 1)
    room += -(ids.shape[-1] + room) % ALIGNED
    hidden, cache = backbone.extend(params, ids, mask, prefix, room)
    first = extend_by(hidden, cache, _empty(keys.shape, sampler, cache))
    last = jax.lax.while_loop(more, advance, first)
    return replace(last.rollout, steps=jnp.broadcast_to(last.length - 1, keys.shape))


def _made_ready(params: Params, dtype: jnp.dtype) -> Params:
    """Factors cast and scaled once: linear maps would do it for every token, a kernel for each."""
    if params.adapter is None:
        return params
    cast = lambda lora: LoRA(lora.a.astype(dtype), (lora.b * lora.scale).astype(dtype), scale=1.0)
    return replace(params, adapter={path: cast(lora) for path, lora in params.adapter.items()})


def join(before: Texts, after: Texts) -> Joined:
    """Puts texts right after those that they continue.

    before   a b _      after   x y z      joined   a b x y z _
    """
    room = before.ids.shape[-1]
    length = before.mask.sum(-1, dtype=jnp.int32)[..., None]
    place = jnp.arange(room + after.ids.shape[-1])
    sampled = (place >= length) & (place < length + after.mask.sum(-1, dtype=jnp.int32)[..., None])
    row = jnp.where(place < length, place, place - length + room)  # of both texts side by side
    both = jnp.concatenate([before.ids, after.ids], axis=-1)
    row = jnp.broadcast_to(jnp.minimum(row, both.shape[-1] - 1), both.shape)
    real = sampled | (place < length)
    return Joined(jnp.where(real, jnp.take_along_axis(both, row, axis=-1), 0), real, sampled)


def predicting_states(
    backbone: Backbone, params: Params, prompt: Prompt, before: Texts, after: Texts
) -> Float[Array, "B G N D"]:
    """The final states that predict the tokens of `after`, by teacher forcing; see `score`."""
    joined = join(before, after)
    hidden = backbone.hidden(params, prompt, joined.ids, joined.mask)
    rows = before.mask.sum(-1, dtype=jnp.int32)[..., None] + jnp.arange(after.ids.shape[-1])
    return jnp.take_along_axis(hidden, rows[..., None], axis=2)


def score(
    backbone: Backbone,
    params: Params,
    prompt: Prompt,
    before: Texts,
    after: Texts,
    temperature: Float[Array, "B G"] | None = None,
) -> TokenStats:
    """Statistics of given texts under given parameters, differentiable; 0 at padding.

    Args:
      backbone: static under jit.
      params: the policy that scores.
      prompt: the context.
      before: texts between the context and what is scored; may have no tokens (T = 0).
      after: what is scored.
      temperature: what `log_prob` is taken at; 0 (greedy) gives 0 there, None is 1.
    """
    hidden = predicting_states(backbone, params, prompt, before, after)
    if temperature is None:
        temperature = jnp.ones(after.ids.shape[:2])
    divisor = _divisor(temperature)
    stats = token_stats(hidden, backbone.unembedding(params), after.ids, temperature=divisor)
    real = lambda x: jnp.where(after.mask, x, 0)
    return TokenStats(
        log_prob=jnp.where((temperature > 0)[..., None], real(stats.log_prob), 0),
        plain_log_prob=real(stats.plain_log_prob),
        entropy=real(stats.entropy),
    )


def _divisor(temperature: Array) -> Array:
    """What divides the logits; any number will do where sampling is greedy."""
    return jnp.where(temperature > 0, temperature, 1)


def _empty(shape: tuple[int, ...], sampler: TextSampler, cache: Cache) -> _Loop:
    zeros = lambda dtype: jnp.zeros((*shape, sampler.max_tokens), dtype)
    token, number = jnp.zeros(shape, jnp.int32), zeros(jnp.float32)
    rollout = TextRollout(
        ids=zeros(jnp.int32),
        mask=zeros(bool),
        log_probs=number,
        plain_log_probs=number,
        entropies=number,
        temperature=sampler.temperature,
        steps=token,
    )
    return _Loop(rollout, token, jnp.ones(shape, bool), jnp.zeros((), jnp.int32), cache)


def _record(rollout: TextRollout, drawn: SampledToken, live: Array, n: Array) -> TextRollout:
    """Writes token n of the samples that are not over."""

    def write(old: Array, new: Array) -> Array:
        new = jnp.where(live, new, 0).astype(old.dtype)
        return jax.lax.dynamic_update_index_in_dim(old, new, n, axis=-1)

    return replace(
        rollout,
        ids=write(rollout.ids, drawn.token),
        mask=write(rollout.mask, live),
        log_probs=write(rollout.log_probs, drawn.log_prob),
        plain_log_probs=write(rollout.plain_log_probs, drawn.plain_log_prob),
        entropies=write(rollout.entropies, drawn.entropy),
    )
