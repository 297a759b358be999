"""Prefill, extension, decoding and teacher forcing: every split of a text has the same states."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asg_jax.models.layers import context
from tests.models.layers.test_language import (
    CONFIG,
    PICTURE,
    contexts,
    make_model,
    some_text,
)

BATCH, SAMPLES = 2, 2
PROMPT, SUFFIX, ROOM = 4, 3, 2  # largest numbers of tokens of each part
ATOL = 5e-6


def compiled(model):
    """The functions of one model, each compiled once per shape."""
    return SimpleNamespace(
        states=jax.jit(lambda prompt: context.states(model, prompt)),
        prefill=jax.jit(lambda prompt: context.prefill(model, prompt)),
        extend=jax.jit(
            lambda ids, mask, prefix, room: context.extend(model, ids, mask, prefix, room),
            static_argnames="room",
        ),
        decode=jax.jit(lambda token, cache: context.decode(model, token, cache)),
        teacher_forced=jax.jit(
            lambda prompt, ids, mask: context.teacher_forced(model, prompt, ids, mask)
        ),
    )


@pytest.fixture(scope="module")
def run():
    return compiled(make_model())


def padded(texts, length, rng):
    """Texts (B, G lists) as right-padded ids and their mask; padding holds any ids."""
    ids = rng.integers(0, CONFIG.vocabulary, (len(texts), len(texts[0]), length))
    mask = np.zeros(ids.shape, bool)
    for place in np.ndindex(*ids.shape[:2]):
        text = texts[place[0]][place[1]]
        ids[place][: len(text)], mask[place][: len(text)] = text, True
    return jnp.asarray(ids), jnp.asarray(mask)


def states_of(run, texts):
    """States of each text on the picture, alone with it in one causal pass."""
    prompt = contexts(texts, PROMPT + SUFFIX + ROOM, np.random.default_rng(0))
    return np.asarray(run.states(prompt))


def lengths(largest):
    return st.lists(st.integers(0, largest), min_size=BATCH, max_size=BATCH)


@settings(max_examples=15)
@given(
    prompts=lengths(PROMPT),
    suffixes=st.lists(lengths(SUFFIX), min_size=SAMPLES, max_size=SAMPLES),
    seed=st.integers(0, 1000),
)
@example(prompts=[0, 0], suffixes=[[2, 3], [3, 1]], seed=0)  # two questions on one picture
@example(prompts=[1, 4], suffixes=[[0, 0], [0, 0]], seed=0)
def test_any_split_has_the_states_of_the_whole(run, prompts, suffixes, seed):
    """Samples of different lengths on shared prefixes of different lengths, then decoded on.

    Each equals its own prompt, so samples do not see each other, and padding is seen by none.
    """
    rng = np.random.default_rng(seed)
    heads = [some_text(rng, length) for length in prompts]
    tails = [[some_text(rng, row[g]) for row in suffixes] for g in range(BATCH)]
    tokens = rng.integers(0, CONFIG.vocabulary, (ROOM, BATCH, SAMPLES))
    prefix = run.prefill(contexts(heads, PROMPT, rng))
    hidden, cache = run.extend(*padded(tails, SUFFIX, rng), prefix, room=ROOM)
    steps = [hidden]
    for token in tokens:
        hidden, cache = run.decode(jnp.asarray(token), cache)
        steps.append(hidden)
    for g in range(SAMPLES):
        texts = [[*heads[n], *tails[n][g], *tokens[:, n, g]] for n in range(BATCH)]
        whole = states_of(run, texts)
        for n, text in enumerate(texts):
            for k, hidden in enumerate(steps):
                row = PICTURE + len(text) - ROOM + k - 1
                np.testing.assert_allclose(hidden[n, g], whole[n, row], atol=ATOL)
            assert int(cache.position[n, g]) == 1 + len(text)


def test_samples_may_start_from_the_prefix_itself(run):
    """T = 0: the state is the prefix's own, and decoding goes on from there."""
    rng = np.random.default_rng(0)
    texts = [some_text(rng, PROMPT), some_text(rng, 1)]
    prefix = run.prefill(contexts(texts, PROMPT, rng))
    ids, mask = padded([[[]] * SAMPLES] * BATCH, 0, rng)
    hidden, cache = run.extend(ids, mask, prefix, room=1)
    np.testing.assert_array_equal(hidden, np.repeat(prefix.hidden[:, None], SAMPLES, axis=1))
    token = jnp.asarray(rng.integers(0, CONFIG.vocabulary, (BATCH, SAMPLES)))
    hidden, _ = run.decode(token, cache)
    for g in range(SAMPLES):
        whole = states_of(run, [[*text, int(token[n, g])] for n, text in enumerate(texts)])
        for n, text in enumerate(texts):
            np.testing.assert_allclose(hidden[n, g], whole[n, PICTURE + len(text)], atol=ATOL)


def test_the_bucket_means_nothing(run):
    rng = np.random.default_rng(0)
    texts = [some_text(rng, 3), some_text(rng, 4)]
    small, large = (run.prefill(contexts(texts, length, rng)) for length in (4, 7))
    np.testing.assert_allclose(large.hidden, small.hidden, atol=ATOL)
    np.testing.assert_array_equal(large.position, small.position)


@pytest.mark.parametrize("length", [1, SUFFIX])
def test_teacher_forcing_shifts_by_one(run, length):
    """Row t is the state before ids[t]; row 0 is the last state of the prompt."""
    rng = np.random.default_rng(0)
    heads = [some_text(rng, 2), some_text(rng, PROMPT)]
    tails = [[some_text(rng, length), some_text(rng, max(length - 1, 1))] for _ in heads]
    hidden = run.teacher_forced(contexts(heads, PROMPT, rng), *padded(tails, length, rng))
    for g in range(SAMPLES):
        whole = states_of(run, [[*head, *tail[g]] for head, tail in zip(heads, tails, strict=True)])
        for n, head in enumerate(heads):
            start, count = PICTURE + len(head) - 1, len(tails[n][g])
            expected = whole[n, start : start + count]
            np.testing.assert_allclose(hidden[n, g, :count], expected, atol=ATOL)


def test_gradients_flow_through_the_shared_prefix(run):
    """They equal those of separate prompts, summed over the samples."""
    rng = np.random.default_rng(0)
    heads, tails = [some_text(rng, 3)], [[some_text(rng, SUFFIX) for _ in range(SAMPLES)]]
    weights = jnp.asarray(rng.normal(size=(SAMPLES, SUFFIX, CONFIG.width)), jnp.float32)
    ids, mask = padded(tails, SUFFIX, rng)
    shared, start = contexts(heads, 3, rng), PICTURE + 3 - 1
    apart = contexts([[*heads[0], *tail] for tail in tails[0]], 3 + SUFFIX, rng)

    def with_features(prompt, features):
        return replace(prompt, features=jnp.repeat(features, len(prompt.ids), axis=0))

    def together(features):
        prompt = with_features(shared, features)
        return jnp.sum(weights * run.teacher_forced(prompt, ids, mask)[0])

    def separate(features):
        hidden = run.states(with_features(apart, features))
        return jnp.sum(weights * hidden[:, start : start + SUFFIX])

    both = jax.jit(lambda features: [jax.grad(f)(features) for f in (together, separate)])
    gradient, expected = both(shared.features)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_bfloat16_decodes_as_it_prefills():
    """Caches and states are bfloat16, and a step agrees with one pass up to its rounding."""
    rng = np.random.default_rng(0)
    run = compiled(make_model(dtype="bfloat16"))
    text = some_text(rng, PROMPT)
    nothing = padded([[[]]], 0, rng)
    prefix = run.prefill(contexts([text[:-1]], PROMPT, rng))
    hidden, cache = run.decode(jnp.array([text[-1:]]), run.extend(*nothing, prefix, room=1)[1])
    assert {x.dtype for x in (hidden, cache.keys, cache.values)} == {jnp.dtype("bfloat16")}
    whole = run.prefill(contexts([text], PROMPT, rng)).hidden
    np.testing.assert_allclose(np.float32(hidden[0]), np.float32(whole), atol=0.05)
