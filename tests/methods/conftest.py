"""A tiny random model, a language in which whatever it says makes sense, and one short run."""

from __future__ import annotations

import zlib
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow

from asg_jax.backbone import Sampler
from asg_jax.methods.asg import Asg, Settings
from asg_jax.methods.asg.settings import Lengths, Role, Temperatures
from asg_jax.models.registry import Model, small_family
from asg_jax.prompts import SCENES
from asg_jax.prompts.language import Language, Pair
from asg_jax.rollout.text import TextRollout
from asg_jax.train.data import grammar

QUESTIONS = (
    "how many objects are there?",
    "what color is the circle?",
    "what shape is the red object?",
    "is there a red cross in any position?",
)
CAPTIONS = ("a red circle", "two green crosses", "a white triangle")


class Babble(Language):
    """Reads any text as a sensible one, a different text (most likely) as a different one."""

    def question(self, text: str) -> str | None:
        return QUESTIONS[zlib.crc32(text.encode()) % 4]

    def caption(self, text: str) -> str | None:
        return CAPTIONS[zlib.crc32(text.encode()) % 3]

    def spec(self, text: str) -> list[Pair]:
        first = zlib.crc32(text.encode()) % 4
        return [(question, "two") for question in (QUESTIONS * 2)[first : first + 2]]


BABBLE = Babble(**{field.name: getattr(SCENES, field.name) for field in fields(Language)})

FAST = Role(learning_rate=1e-2, rank=4, alpha=8.0)
SETTINGS = Settings(
    understanding_steps=1,
    generation_steps=1,
    candidates=2,
    framings=3,
    images=3,
    questions=2,
    checks=1,
    retries=1,
    proposer=FAST,
    solver=FAST,
    generator=FAST,
    lengths=Lengths(question=10, answer=3, caption=8, spec=4),
    temperatures=Temperatures(answer=0.6),
    sampler=Sampler(grid=(4, 4), steps=3, shift=1.0, guidance=1.0),
    objective="nft",
    image_similarity="likelihood",
    kept_reward=0.0,
)
B = 3  # pictures in a step
MODELS = FLOW, BITS = "bagel-tiny", "vargpt-tiny"  # one of each kind
# Marks of tests for one kind alone.
flows, bits = (pytest.mark.parametrize("model", [name], indirect=True) for name in MODELS)


@pytest.fixture(scope="package", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder, kind = tmp_path_factory.mktemp("tiny"), small_family(request.param)
    kind.create(request.param, folder, grammar.vocabulary())
    backbone, processor = kind.open(folder, "float32")
    base = jax.jit(backbone.init_base)(jax.random.key(0))
    return Model(backbone, base, processor, kind, folder)


def fitting(model: Model, settings: Settings = SETTINGS) -> Settings:
    """Settings with an objective that trains a model of that kind."""
    return settings if model.backbone.spec.kind == "flow" else replace(settings, objective="grpo")


def make(model: Model, settings: Settings | None = None) -> Asg:
    """The method on a model; programs of one method are compiled once."""
    return Asg(
        model.backbone,
        model.base,
        model.processor,
        model.family.roles,
        BABBLE,
        settings or fitting(model),
        pictures=B,
    )


@pytest.fixture(scope="package")
def asg(model: Model) -> Asg:
    """The method that all tests of whole steps share."""
    return make(model)


def pictures(seed: int = 0, count: int = B) -> list[Pillow.Image]:
    """Noise, which a random model tells apart as well as scenes."""
    rng = np.random.default_rng(seed)
    return [Pillow.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(count)]


def copied(tree):
    """A state that outlives the step that uses it up."""
    return jax.tree.map(lambda x: x.copy(), tree)


def spoken(ids: np.ndarray) -> TextRollout:
    """What a role said, of these tokens; negative ones are padding."""
    number, few = jnp.zeros(ids.shape), jnp.zeros(ids.shape[:2])
    tokens = jnp.asarray(np.maximum(ids, 0), jnp.int32)
    return TextRollout(tokens, jnp.asarray(ids >= 0), number, number, number, few, few)
