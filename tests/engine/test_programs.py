"""The programs on a toy backbone: what is asked about every drawing, with which keys."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Params, Prompt, Sampler
from asg_jax.engine import programs
from asg_jax.engine.engine import names
from asg_jax.engine.programs import (
    Comparison,
    Inquiry,
    Lengths,
    Order,
    Sentence,
    Talk,
    Viewing,
    ask_about,
    compare,
    continue_texts,
    embed,
    keys,
    view,
)
from asg_jax.rollout.image import draw
from asg_jax.rollout.text import Texts, TextSampler, sample_text, score
from asg_jax.testing import toy

B, L, Q, M, N = 2, 3, 2, 2, 4
NOISY = Sampler(toy.GRID, steps=3, guidance=1.0, noise_level=0.7)
TOY: Any = toy.Toy()
READER: Any = toy.ToyProcessor()
PARAMS = Params(toy.base(), toy.adapter())
RNG = np.random.default_rng(0)
STREAM = jnp.asarray(RNG.integers(0, 99, (B, 5)), jnp.uint32)
PIXELS = jnp.asarray(RNG.uniform(size=(B, L, *toy.GRID, 3)), jnp.float32)
ids = lambda *shape: jnp.asarray(RNG.integers(1, toy.V, shape))
full = lambda *shape: Texts(ids(*shape), jnp.ones(shape, bool))
close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
same = partial(jax.tree.map, close)


def frame() -> Prompt:
    """A row of text, five of the six patches, a row of text."""
    slot = jnp.broadcast_to(jnp.array([-1, 0, 1, 2, 3, 4, -1]), (B, 7))
    rows = jnp.broadcast_to(jnp.arange(7), (B, 7))
    return Prompt(ids(B, 7), slot, rows[..., None], rows, jnp.ones((B, 7), bool))


VIEWING = Viewing(PIXELS, frame())
QUESTIONS, DESCRIBE = full(B, Q, 3), full(B, 1, 2)
REFERENCE, ANSWERS = full(B, M, 3), Texts(ids(B, M, 2), jnp.array([[[1, 1], [1, 0]]] * B, bool))
INQUIRY = Inquiry(
    VIEWING,
    QUESTIONS,
    DESCRIBE,
    REFERENCE,
    ANSWERS,
    jnp.full((B, Q), 1.0),
    jnp.full((B, 1), 0.7),
    STREAM,
)


def of(tree, b: int):
    """The entries of one prompt, as a batch of one."""
    return jax.tree.map(lambda x: x[b : b + 1], tree)


def drawing(b: int, n: int) -> Any:
    """The prompt of one drawing."""
    return view(TOY, READER, PARAMS, Viewing(PIXELS[b : b + 1, n : n + 1], of(VIEWING.frame, b)))


def test_a_key_is_folded_from_every_number_of_its_row():
    got = keys(STREAM, 3)
    key = jax.random.key(STREAM[1, 0])
    for number in STREAM[1, 1:]:
        key = jax.random.fold_in(key, number)
    assert got.shape == (B, 3) and got[1, 2] == jax.random.fold_in(key, 2)
    for place in range(5):
        assert (keys(STREAM.at[0, place].add(1), 3)[0] != got[0]).all()
    assert (keys(STREAM[1:], 2)[0] == got[1, :2]).all()


def test_a_view_is_a_prompt_for_every_drawing():
    prompts: Any = view(TOY, READER, PARAMS, VIEWING)
    assert prompts.ids.shape == (B * L, 7)
    for b, n in np.ndindex(B, L):
        close(prompts.features[b * L + n], PIXELS[b, n].reshape(-1, 3) @ PARAMS.base["vision"])
        np.testing.assert_array_equal(prompts.ids[b * L + n], VIEWING.frame.ids[b])


def test_texts_are_continued_under_the_keys_of_their_stream():
    talk = Talk(toy.request(B), QUESTIONS, jnp.full((B, Q), 1.0), STREAM)
    got = continue_texts(TOY, N, (0,), PARAMS, talk)
    prefix = TOY.prefill(PARAMS, talk.request.prompts.main)
    sampler = TextSampler(talk.temperature, N, (0,))
    texts = QUESTIONS.ids, QUESTIONS.mask
    same(got, sample_text(TOY, PARAMS, prefix, *texts, keys(STREAM, Q), sampler))


def test_drawings_are_drawn_under_the_keys_of_their_stream():
    got = programs.draw(TOY, NOISY, L, PARAMS, Order(toy.request(B), STREAM))
    want = draw(TOY, PARAMS, toy.request(B), keys(STREAM, L), NOISY)
    close(got.values, want.values)
    close(got.pixels, want.pixels)


REPLIES, LIKENESS = names(programs.Replies), names(programs.Likeness)


@pytest.fixture(scope="module")
def replies():
    run = jax.jit(ask_about, static_argnums=(0, 1, 2, 3))
    return run(TOY, READER, Lengths(answer=N, caption=N + 1), REPLIES, PARAMS, INQUIRY)


@pytest.mark.parametrize("b, n", [(0, 0), (0, 2), (1, 1)])
def test_every_drawing_is_asked_about_with_keys_of_its_own(replies, b: int, n: int):
    """Of the keys of a drawing the first is the caption's."""
    own = keys(STREAM, L * (Q + 1))[b, n * (Q + 1) : (n + 1) * (Q + 1)][None]
    prefix = TOY.prefill(PARAMS, drawing(b, n))

    def want(texts, temperature, keys, tokens):
        texts, sampler = of(texts, b), TextSampler(temperature[b : b + 1], tokens, (0,))
        return sample_text(TOY, PARAMS, prefix, texts.ids, texts.mask, keys, sampler)

    here = lambda tree: jax.tree.map(lambda x: x[b, n][None], tree)
    answers, captions = here(replies.answers), here(replies.captions)
    same(answers, want(QUESTIONS, INQUIRY.temperature, own[:, 1:], N))
    same(captions, want(DESCRIBE, INQUIRY.caption_temperature, own[:, :1], N + 1))
    scored = score(TOY, PARAMS, drawing(b, n), of(REFERENCE, b), of(ANSWERS, b)).plain_log_prob
    close(replies.probability[b, n], np.exp(scored[0]).prod(-1))


def test_nobody_answers_what_is_not_asked():
    got = ask_about(TOY, READER, Lengths(), frozenset({"captions"}), PARAMS, INQUIRY)
    assert got.probability is got.answers is None and got.captions is not None


def sentence(count: int) -> Sentence:
    """Texts of three tokens, of which the first is a marker."""
    prompt = toy.request(count, seed=count).prompts.main
    return Sentence(prompt, prompt.ids.at[:].set(1).astype(bool).at[:, 0].set(False))


DRAWN = Texts(ids(B, 1, 3), jnp.array([[[1, 1, 1]], [[1, 1, 0]]], bool))
CAPTIONS = sentence(B * L)
GROUPED = jax.tree.map(lambda x: x.reshape(B, L, *x.shape[1:]), CAPTIONS)
COMPARISON = Comparison(VIEWING, sentence(B), GROUPED, DESCRIBE, DRAWN)


def unit(rows):
    mean = np.asarray(rows).mean(0)
    return mean / np.linalg.norm(mean)


@pytest.mark.parametrize("b, n", [(0, 1), (1, 2)])
def test_drawings_are_compared_by_what_is_shown(b: int, n: int):
    run = jax.jit(compare, static_argnums=(0, 1, 2))
    got = run(TOY, READER, LIKENESS, PARAMS, COMPARISON)
    seen = drawing(b, n)
    close(got.features[b, n], unit(seen.features[0, :5]))  # the sixth patch stands nowhere
    close(got.pictures[b, n], unit(TOY.states(PARAMS, seen)[0, 1:6]))
    words = lambda texts, row: unit(TOY.states(PARAMS, texts.prompt)[row, 1:])
    close(got.prompts[b], words(COMPARISON.prompts, b))
    close(got.captions[b, n], words(CAPTIONS, b * L + n))
    close(embed(TOY, PARAMS, COMPARISON.prompts)[b], got.prompts[b])
    scored = score(TOY, PARAMS, seen, of(DESCRIBE, b), of(DRAWN, b)).plain_log_prob[0, 0]
    close(got.likelihood[b, n], scored.sum() / DRAWN.mask[b].sum())


def test_only_what_is_wanted_is_compared():
    got = compare(TOY, READER, frozenset({"features"}), PARAMS, COMPARISON)
    assert got.features is not None
    assert got.pictures is got.likelihood is got.prompts is got.captions is None


def test_a_likelihood_alone_is_that_of_the_comparison():
    explanation = programs.Explanation(VIEWING, DESCRIBE, DRAWN)
    got = programs.explain(TOY, READER, PARAMS, explanation)
    want: Any = compare(TOY, READER, frozenset({"likelihood"}), PARAMS, COMPARISON).likelihood
    close(got, want)
