"""Text rollouts: G samples of each of B prompts that hold a picture."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from asg_jax.backbone import Backbone, Cache, Params, Prefix, Prompt, PyTree, Request, encode
from asg_jax.ops.vocab import unembed
from asg_jax.rollout.text import SampledToken, TextRollout, TextSampler, draw, sample_text
from asg_jax.train.benchmarks.cost import StepCost, cost
from asg_jax.train.benchmarks.forms import Call, Forms, Task, one_by_one
from asg_jax.train.compiler import jit


@partial(jit, static_argnums=0)
def engine(
    backbone: Backbone, params: Params, request: Request, keys: Array, sampler: TextSampler
) -> TextRollout:
    """Encodes and prefills every prompt once, and decodes all samples together."""
    prefix = backbone.prefill(params, encode(backbone, params, request).main)
    return _loop(backbone, params, prefix, keys, sampler)


def plain(task: Task) -> SampledToken:
    """One sample at a time, its prompt computed anew; every field has the axes B, G, N."""
    samples = [_plain_sample(*one) for one in one_by_one(task)]
    shape = *task.keys.shape, task.sampler.max_tokens
    return jax.tree.map(lambda *tokens: np.reshape(tokens, shape), *samples)


def _plain_sample(
    backbone: Backbone, params: Params, request: Request, keys: Array, sampler: TextSampler
) -> SampledToken:
    """A call of a program for every token, and a look at the token before the next one."""
    prompt = _encode(backbone, params, request).main
    drawn, cache = _begin(backbone, params, prompt, keys, sampler)
    tokens = [drawn]
    while drawn.token.item() not in sampler.stop_ids and len(tokens) < sampler.max_tokens:
        fed = drawn.token, cache
        drawn, cache = _advance(backbone, params, *fed, keys, len(tokens), sampler)
        tokens.append(drawn)
    return jax.tree.map(lambda *values: np.ravel(values), *tokens)


_encode = jax.jit(encode, static_argnums=0)


@partial(jax.jit, static_argnums=0)
def _begin(
    backbone: Backbone, params: Params, prompt: Prompt, keys: Array, sampler: TextSampler
) -> tuple[SampledToken, Cache]:
    room = sampler.max_tokens - 1
    prefix = backbone.prefill(params, prompt)
    hidden, cache = backbone.extend(params, *_nothing(keys), prefix, room)
    return _draw(backbone, params, hidden, keys, 0, sampler), cache


@partial(jax.jit, static_argnums=0, donate_argnums=3)
def _advance(
    backbone: Backbone,
    params: Params,
    token: Array,
    cache: Cache,
    keys: Array,
    n: int,
    sampler: TextSampler,
) -> tuple[SampledToken, Cache]:
    hidden, cache = backbone.decode(params, token, cache)
    return _draw(backbone, params, hidden, keys, n, sampler), cache


def _draw(
    backbone: Backbone,
    params: Params,
    hidden: Array,
    keys: Array,
    n: int | Array,
    sampler: TextSampler,
) -> SampledToken:
    """Draws token n as the engine does: equal keys must give equal tokens."""
    own = jax.vmap(jax.vmap(lambda key: jax.random.fold_in(key, n)))(keys)
    return draw(unembed(hidden, backbone.unembedding(params)), own, sampler)


def _loop(
    backbone: Backbone, params: Params, prefix: Prefix, keys: Array, sampler: TextSampler
) -> TextRollout:
    return sample_text(backbone, params, prefix, *_nothing(keys), keys, sampler)


def _nothing(keys: Array) -> tuple[Array, Array]:
    """Ids and mask of no text: the question stands in the prefix."""
    return jnp.zeros((*keys.shape, 0), jnp.int32), jnp.zeros((*keys.shape, 0), bool)


def differences(rollout: TextRollout, plain: SampledToken) -> dict[str, float]:
    """Share of other tokens, and the largest difference of log-probs before the first of them."""
    equal = np.asarray(rollout.ids) == plain.token
    error = np.abs(np.asarray(rollout.plain_log_probs) - plain.plain_log_prob)
    together = np.logical_and.accumulate(equal, axis=-1)
    return {
        "tokens": float(1 - equal.mean()),
        "log_probs": float(error.max(where=together, initial=0)),
    }


def parts(task: Task) -> dict[str, Call]:
    """The engine's parts; `draw` is all that follows the network for one token of all samples."""
    backbone, params, request, keys, sampler = task
    prefill = jit(backbone.prefill)
    loop, select = jit(_loop, static_argnums=0), jit(_draw, static_argnums=0)
    prompt = _encode(backbone, params, request).main
    prefix = prefill(params, prompt)
    hidden = jnp.broadcast_to(prefix.hidden[:, None], (*keys.shape, prefix.hidden.shape[-1]))
    return {
        "encode_images": lambda: _encode(backbone, params, request),
        "prefill": lambda: prefill(params, prompt),
        "decode_loop": lambda: loop(backbone, params, prefix, keys, sampler),
        "draw": lambda: select(backbone, params, hidden, keys, 0, sampler),
    }


def step_seconds(task: Task, seconds: Mapping[str, float]) -> float:
    """Of one token of all samples; the prefix gives the first one without a step."""
    return (seconds["decode_loop"] - seconds["draw"]) / (task.sampler.max_tokens - 1)


def step_cost(task: Task) -> StepCost:
    """Of one decoding step of all samples: the network, its cache, and the logits."""
    backbone, params, request, keys, sampler = task

    def begin(params: Params, request: Request) -> tuple[Array, Cache]:
        prompt = encode(backbone, params, request).main
        drawn, cache = _begin(backbone, params, prompt, keys, sampler)
        return drawn.token, cache

    def step(params: Params, context: PyTree) -> Array:
        return unembed(backbone.decode(params, *context)[0], backbone.unembedding(params))

    return cost(step, params, jax.eval_shape(begin, params, request))


def units(task: Task) -> int:
    """How many tokens a task draws."""
    return task.keys.size * task.sampler.max_tokens


FORMS = Forms(
    engine, plain, differences, parts, step_seconds, step_cost, unit="tokens", units=units
)
