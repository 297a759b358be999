"""Programs that score, on a toy backbone: by hand, and once for whatever is shared."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Params, Target
from asg_jax.engine.programs import Viewing, keys, view
from asg_jax.engine.scoring import (
    Depiction,
    DrawnPoll,
    Poll,
    SeenPoll,
    Telling,
    ask_drawings,
    ask_pictures,
    depict,
    features,
    tell,
)
from asg_jax.objectives.painter import times_and_noise
from asg_jax.ops.bits import bit_log_probs
from asg_jax.rollout.text import Texts, score
from asg_jax.testing import toy
from tests.engine.test_programs import PIXELS, STREAM, frame

B, L, Q, G, S = 2, 3, 2, 3, 4
RNG = np.random.default_rng(1)
PARAMS = Params(toy.base(), toy.adapter())
READER: Any = toy.ToyProcessor()
close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
VIEWING = Viewing(PIXELS, frame())
QUESTIONS = Texts(
    jnp.asarray(RNG.integers(1, toy.V, (B, Q, 3))),
    jnp.array([[[1, 1, 1], [1, 1, 0]]] * B, bool),
)
# Spellings of either side; of the second question everything but the right answer is wrong.
POLL = Poll(
    QUESTIONS,
    jnp.array([[[1, 2], [3, -1]]] * B),
    jnp.array([[[4, -1], [-1, -1]]] * B),
)


@dataclass(frozen=True)
class Encoding(toy.Toy):
    """The toy, which turns pictures into targets of their own pixels."""

    def encode_target(self, params, pixels, key):
        values = pixels.reshape(len(pixels), toy.L, 3)[..., : toy.C]
        if self.kind == "bits":
            values = (values > 0.5).astype(jnp.int32)
        return Target(values, toy.GRID)


TOYS: dict[str, Any] = {kind: Encoding(kind) for kind in ("flow", "bits")}
TOY = TOYS["flow"]


def first_token(prompt, question: int) -> np.ndarray:
    """Distribution of the token after a question, (rows of the prompt, V)."""
    real = int(QUESTIONS.mask[0, question].sum())
    ids = jnp.repeat(QUESTIONS.ids[:, question, :real], len(prompt.ids) // B, axis=0)
    prefix = TOY.prefill(PARAMS, prompt)
    hidden, _ = TOY.extend(PARAMS, ids[:, None], jnp.ones_like(ids[:, None], bool), prefix, 1)
    return np.asarray(jax.nn.softmax(hidden[:, 0] @ TOY.unembedding(PARAMS).T))


def test_answers_are_read_off_their_first_token() -> None:
    got = jax.jit(partial(ask_drawings, TOY, READER))(PARAMS, DrawnPoll(VIEWING, POLL))
    seen = view(TOY, READER, PARAMS, VIEWING)
    p, other = first_token(seen, 0).reshape(B, L, -1), first_token(seen, 1).reshape(B, L, -1)
    close(got.yes[..., 0], p[..., 1] + p[..., 2])
    close(got.no[..., 0], p[..., 4])
    close(got.yes[..., 1], other[..., 3])
    close(got.no[..., 1], 1 - other[..., 3])
    of_requests = ask_pictures(TOY, PARAMS, SeenPoll(toy.request(B), POLL))
    close(of_requests.yes[:, 1], first_token(toy.request(B).prompts.main, 1)[:, 3])


def test_features_are_those_of_the_drawing() -> None:
    found = features(TOY, READER, PARAMS, VIEWING)
    rows = (PIXELS[1, 2].reshape(-1, 3) @ PARAMS.base["vision"])[:5].mean(0)  # five are shown
    close(found[1, 2], rows / np.linalg.norm(rows))


def test_one_prefix_serves_all_texts() -> None:
    said = Texts(QUESTIONS.ids[..., :2], QUESTIONS.mask[..., :2])
    got = tell(TOY, PARAMS, Telling(toy.request(B), QUESTIONS, said))
    scored = score(TOY, PARAMS, toy.request(B).prompts.main, QUESTIONS, said)
    close(got, scored.plain_log_prob.sum(-1) / said.mask.sum(-1))


@pytest.mark.parametrize("kind", TOYS)
def test_a_picture_under_many_captions(kind: str) -> None:
    """All captions of a picture meet the same times and noise, and no others."""
    backbone, pixels = TOYS[kind], PIXELS[:, 0]
    captions = [toy.request(B, seed=n) for n in range(G)]
    batch = Depiction(pixels, jax.tree.map(lambda *x: jnp.stack(x, 1), *captions), STREAM)
    got = jax.jit(partial(depict, backbone, S, 2.0))(PARAMS, batch)
    np.testing.assert_array_equal(got.elements, toy.L * toy.C)
    target = backbone.encode_target(PARAMS, pixels, None)
    own = keys(STREAM, 2)
    for g, request in enumerate(captions):
        condition = backbone.condition(PARAMS, request.prompts, own[:, 0])
        values = target.values[:, None]
        if kind == "bits":
            logits = backbone.terms(PARAMS, condition, Target(values, toy.GRID), None).logits
            want = bit_log_probs(logits, values).mean((2, 3))
            assert got.likelihood.shape == (B, G, 1)
        else:
            draw = times_and_noise(own[:, 1], values, S, 2.0)
            several = Target(jnp.repeat(values, S, axis=1), toy.GRID)
            terms = backbone.terms(PARAMS, condition, several, draw)
            want = -((terms.prediction - terms.goal) ** 2).mean((2, 3))
        close(got.likelihood[:, g], want)
