"""Text rollouts on the golden models: what is recorded, what a sample does not depend on."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from asg_jax.backbone import Params, host
from asg_jax.ops.sampling import truncate
from asg_jax.ops.vocab import TokenStats
from asg_jax.rollout.text import (
    TextRollout,
    Texts,
    TextSampler,
    draw,
    join,
    predicting_states,
    sample_text,
    score,
)
from tests.rollout.conftest import equations, jit, longer

STATISTICS = ("log_probs", "plain_log_probs", "entropies")
NEW = 6  # tokens drawn at most

sample = jit(sample_text, static_argnums=0)
scored = jit(score, static_argnums=0)
drawn = jit(draw)


@pytest.fixture(scope="module")
def prompt(tiny):
    return tiny.pictures()


@pytest.fixture(scope="module")
def prefill(tiny):
    return partial(jit(tiny.backbone.prefill), tiny.adapted)


@pytest.fixture(scope="module")
def prefix(prompt, prefill):
    return prefill(prompt)


@pytest.fixture(scope="module")
def texts(tiny):
    """Ids and mask of three questions for each of two pictures; one is empty."""
    turns = [["what?", "is it red?", ""], ["how many", "?", "where is it"]]
    rows = [list(map(tiny.processor.ids, row)) for row in turns]
    length = max(len(row) for group in rows for row in group) + 1
    ids, mask = np.zeros((2, 3, length), np.int32), np.zeros((2, 3, length), bool)
    for place in np.ndindex(2, 3):
        row = rows[place[0]][place[1]]
        ids[place][: len(row)], mask[place][: len(row)] = row, True
    return ids, mask


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(0), (2, 3))


TEMPERATURE = np.array([[1.0, 0.7, 0.0], [1.3, 0.0, 1.0]], np.float32)
SAMPLER = TextSampler(host(TEMPERATURE), NEW, ())


@pytest.fixture(scope="module")
def rollout(tiny, prefix, texts, keys) -> TextRollout:
    """With an adapter, without stop ids."""
    return sample(tiny.backbone, tiny.adapted, prefix, *texts, keys, SAMPLER)


def assert_same(got: TextRollout, want: TextRollout, atol=1e-5, here: Any = ..., there: Any = ...):
    """Compares the samples at `here` in one rollout with those at `there` in another."""
    for name in ("ids", "mask", *STATISTICS):
        ours, theirs = getattr(got, name)[here], getattr(want, name)[there]
        np.testing.assert_allclose(ours, theirs, atol=atol * (name in STATISTICS), rtol=0)


def assert_scored(got: TokenStats, want: TextRollout):
    """Compares the statistics of a rollout with those of teacher forcing."""
    scored = (got.log_prob, got.plain_log_prob, got.entropy)
    for name, ours in zip(STATISTICS, scored, strict=True):
        np.testing.assert_allclose(ours, getattr(want, name), atol=1e-4)


@pytest.fixture(scope="module")
def teacher(tiny, prompt, texts, rollout):
    """Gradient of the summed log-probs, the rollout scored again, the states that predict it."""
    before = Texts(*texts)

    def total(adapter):
        params = Params(tiny.adapted.base, adapter)
        states = predicting_states(tiny.backbone, params, prompt, before, rollout.texts)
        again = score(tiny.backbone, params, prompt, before, rollout.texts, rollout.temperature)
        return again.log_prob.sum(), (again, states)

    gradient, (again, states) = jit(jax.grad(total, has_aux=True))(tiny.adapted.adapter)
    return gradient, again, states


def test_recorded_statistics_are_teacher_forced_ones(rollout, teacher):
    gradient, again, _ = teacher
    assert_scored(again, rollout)
    assert (rollout.entropies > 0).all() and (rollout.plain_log_probs < 0).all()
    for path, lora in gradient.items():
        for factor in (lora.a, lora.b):
            assert np.isfinite(factor).all()
            assert bool(factor.any()) == (".und." in path), path  # the others draw pictures


def test_recorded_statistics_without_adapter(tiny, prompt, texts, keys, rollout):
    """Texts of different lengths: every third token stops."""
    prefix = jit(tiny.backbone.prefill)(tiny.frozen, prompt)
    sampler = replace(SAMPLER, stop_ids=tuple(range(0, tiny.backbone.spec.vocabulary, 3)))
    plain = sample(tiny.backbone, tiny.frozen, prefix, *texts, keys, sampler)
    lengths = plain.mask.sum(-1)
    assert lengths.min() < lengths.max()
    run = partial(scored, tiny.backbone, tiny.frozen, prompt, Texts(*texts))
    assert_scored(run(plain.texts, plain.temperature), plain)
    other = run(rollout.texts)  # without a temperature it is 1
    assert np.abs(other.plain_log_prob - rollout.plain_log_probs).max() > 0.1
    np.testing.assert_allclose(other.log_prob, other.plain_log_prob, atol=1e-5)


def test_every_token_is_drawn_from_its_logits(tiny, keys, rollout, teacher):
    """With a key of its own; greedy rows take the most probable token."""
    logits = np.asarray(teacher[2]) @ tiny.backbone.unembedding(tiny.adapted).T
    for n in range(NEW):
        own = jax.vmap(jax.vmap(lambda key, n=n: jax.random.fold_in(key, n)))(keys)
        token = drawn(logits[:, :, n], own, SAMPLER).token
        np.testing.assert_array_equal(rollout.ids[..., n], token)
    best, greedy = np.argmax(logits, axis=-1), TEMPERATURE == 0
    np.testing.assert_array_equal(rollout.ids[greedy], best[greedy])
    assert not rollout.log_probs[greedy].any()
    assert (rollout.ids != best)[~greedy].any()
    assert (rollout.log_probs != rollout.plain_log_probs)[0, 1].all()  # T = 0.7
    np.testing.assert_allclose(rollout.log_probs[0, 0], rollout.plain_log_probs[0, 0], atol=1e-6)


def test_equal_inputs_give_equal_bits(tiny, prefix, texts, keys, rollout):
    again = sample(tiny.backbone, tiny.adapted, prefix, *texts, keys, SAMPLER)
    jax.tree.map(np.testing.assert_array_equal, again, rollout)


def test_sample_follows_its_key(tiny, prompt, prefill, texts, keys, rollout):
    """Prompts and samples in another order: every sample moves with its key and its text."""
    order = np.array([2, 0, 1])
    turn = lambda x: x[::-1][:, order]
    prefix = prefill(jax.tree.map(lambda x: x[::-1], prompt))
    sampler = replace(SAMPLER, temperature=turn(TEMPERATURE))
    got = sample(tiny.backbone, tiny.adapted, prefix, *map(turn, texts), turn(keys), sampler)
    assert_same(got, jax.tree.map(turn, rollout))


def test_sample_ignores_its_batch(tiny, prefix, texts, rollout):
    """Everything but prompt 0, sample 1 is replaced."""
    ids, mask = np.full_like(texts[0], 65), np.ones_like(texts[1])
    ids[0, 1], mask[0, 1] = texts[0][0, 1], texts[1][0, 1]
    keys = jax.random.split(jax.random.key(5), (2, 3))
    keys = keys.at[0, 1].set(jax.random.split(jax.random.key(0), (2, 3))[0, 1])
    sampler = replace(SAMPLER, temperature=host(np.full((2, 3), 0.7, np.float32)))
    got = sample(tiny.backbone, tiny.adapted, prefix, ids, mask, keys, sampler)
    assert_same(got, rollout, here=(0, 1), there=(0, 1))
    assert (got.ids[0, 0] != rollout.ids[0, 0]).any()


def test_group_size_and_buckets_change_nothing(tiny, prompt, prefill, texts, keys, rollout):
    """One sample alone, with longer buckets of prompt, text and answer."""
    ids, mask = (np.pad(x[1:, 2:], ((0, 0), (0, 0), (0, 5)), constant_values=0) for x in texts)
    ids[~mask] = 99
    prefix = prefill(longer(jax.tree.map(lambda x: x[1:], prompt), 8))
    sampler = TextSampler(host(TEMPERATURE[1:, 2:]), NEW + 2, ())
    got = sample(tiny.backbone, tiny.adapted, prefix, ids, mask, keys[1:, 2:], sampler)
    assert got.ids.shape == (1, 1, NEW + 2)
    assert_same(got, rollout, here=(0, 0, slice(NEW)), there=(1, 2))


def test_stop_tokens_end_a_text_and_the_loop(tiny, prefix, texts, keys, rollout):
    """Every text ends with its first stop token, and the loop with the last of the texts."""
    stops = tuple(sorted({int(n) for n in np.ravel(rollout.ids[..., 2])}))
    ends = np.isin(rollout.ids, stops).argmax(-1)
    sampler = replace(SAMPLER, stop_ids=stops)
    got = sample(tiny.backbone, tiny.adapted, prefix, *texts, keys, sampler)
    real = np.arange(NEW) <= ends[..., None]
    np.testing.assert_array_equal(got.mask, real)
    np.testing.assert_array_equal(got.ids, np.where(real, rollout.ids, 0))
    for name in STATISTICS:
        want = np.where(real, getattr(rollout, name), 0)
        np.testing.assert_allclose(getattr(got, name), want, atol=1e-5)
    np.testing.assert_array_equal(rollout.steps, np.full((2, 3), NEW - 1))
    np.testing.assert_array_equal(got.steps, np.full((2, 3), ends.max()))


def test_samples_of_the_prefix_itself(tiny, prefix, keys):
    """No text at all, and one token: nothing is decoded."""
    nothing = np.zeros((2, 3, 0), np.int32)
    sampler = replace(SAMPLER, max_tokens=1)
    got = sample(tiny.backbone, tiny.adapted, prefix, nothing, nothing.astype(bool), keys, sampler)
    logits = np.asarray(prefix.hidden) @ tiny.backbone.unembedding(tiny.adapted).T
    first = jax.vmap(jax.vmap(lambda key: jax.random.fold_in(key, 0)))(keys)
    want = drawn(np.repeat(logits[:, None], 3, axis=1), first, SAMPLER)
    np.testing.assert_array_equal(got.ids[..., 0], want.token)
    np.testing.assert_allclose(got.log_probs[..., 0], want.log_prob, atol=1e-5)
    assert not got.steps.any()


def test_devices_change_nothing(tiny, prefix, texts, keys, rollout):
    """Each prompt on a device of its own, whose loop ends on its own."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    on_first, on_second = P("data"), P(None, "data")
    specs = replace(jax.tree.map(lambda _: on_first, prefix), keys=on_second, values=on_second)
    run = jax.shard_map(
        partial(sample_text, tiny.backbone),
        mesh=mesh,
        in_specs=(P(), specs, P("data"), P("data"), P("data"), P("data")),
        out_specs=P("data"),
        check_vma=False,
    )
    stops = tuple({int(n) for n in np.ravel(rollout.ids[0])})
    got = jit(run)(tiny.adapted, prefix, *texts, keys, replace(SAMPLER, stop_ids=stops))
    np.testing.assert_array_equal(got.ids[0, :, 0], rollout.ids[0, :, 0])
    assert not got.steps[0].any() and got.steps[1].all()


@pytest.mark.parametrize("top_k, top_p", [(0, 1.0), (5, 1.0), (0, 0.8), (9, 0.9)])
def test_tokens_follow_the_distribution(top_k, top_p):
    """Total variation of 20,000 draws; their expected value is below 0.012."""
    count, vocabulary, temperature = 20_000, 16, 1.4
    logits = np.random.default_rng(3).normal(0, 2, vocabulary).astype(np.float32)
    full = lambda x: jnp.full((1, count), x)
    sampler = TextSampler(full(temperature), 1, ())
    if top_k or top_p < 1:
        sampler = replace(sampler, top_k=full(top_k), top_p=full(top_p))
    keys = jax.random.split(jax.random.key(2), (1, count))
    got = drawn(np.broadcast_to(logits, (1, count, vocabulary)), keys, sampler)
    row = jnp.asarray(logits), jnp.float32(temperature), jnp.array(top_k), jnp.float32(top_p)
    want = jit(truncate)(*row)
    counted = np.bincount(np.ravel(got.token), minlength=vocabulary) / count
    assert np.abs(counted - np.exp(want)).sum() / 2 < 0.03
    np.testing.assert_allclose(got.log_prob, np.asarray(want)[got.token], atol=1e-5)
    plain = jax.nn.log_softmax(logits)
    np.testing.assert_allclose(got.plain_log_prob, plain[got.token], atol=1e-5)
    entropy = -(np.exp(plain) * plain).sum()
    np.testing.assert_allclose(got.entropy, np.full((1, count), entropy), atol=1e-5)


def program(tiny, prefix, texts, keys, sampler):
    run = partial(sample_text, tiny.backbone)
    return jax.make_jaxpr(run)(tiny.adapted, prefix, *texts, keys, sampler)


def test_program_holds_one_token_of_logits_and_sorts_nothing(tiny, prefix, texts, keys):
    jaxpr = program(tiny, prefix, texts, keys, SAMPLER)
    found = list(equations(jaxpr.jaxpr))
    assert not any(equation.primitive.name == "sort" for equation in found)
    vocabulary, batch = tiny.backbone.spec.vocabulary, keys.size
    outputs = [v.aval for equation in found for v in equation.outvars]
    large = [x for x in outputs if vocabulary in getattr(x, "shape", ())]
    assert large
    assert max(x.size for x in large if x.dtype == jnp.float32) == vocabulary * batch


def test_decode_has_no_effects(tiny, prefix, texts, keys):
    backbone = tiny.backbone
    _, cache = jax.eval_shape(
        lambda *inputs: backbone.extend(*inputs, room=NEW), tiny.adapted, *texts, prefix
    )
    token = jnp.zeros((2, 3), jnp.int32)
    assert not jax.make_jaxpr(backbone.decode)(tiny.adapted, token, cache).effects
    assert not program(tiny, prefix, texts, keys, SAMPLER).effects


@settings(max_examples=50)
@given(st.integers(0, 4), st.integers(0, 3))
def test_join_puts_the_sampled_tokens_after_the_text(text, new):
    ids, answer = np.arange(1, 5, dtype=np.int32), np.arange(11, 14, dtype=np.int32)
    mask, real = np.arange(4) < text, np.arange(3) < new
    one = lambda ids, mask: Texts(host(ids[None, None]), host(mask[None, None]))
    got = joined(one(ids, mask), one(np.where(real, answer, 0), real))
    np.testing.assert_array_equal(
        got.ids[0, 0], [*ids[:text], *answer[:new], *[0] * (7 - text - new)]
    )
    np.testing.assert_array_equal(got.mask[0, 0], np.arange(7) < text + new)
    sampled = (np.arange(7) >= text) & (np.arange(7) < text + new)
    np.testing.assert_array_equal(got.sampled[0, 0], sampled)


joined = jit(join)
