"""A tiny random model, a language in which whatever it says makes sense, and one short run."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow

from asg_jax.backbone import Sampler
from asg_jax.engine.engine import Moment
from asg_jax.engine.method import Examples, Report
from asg_jax.engine.model import UnifiedModel
from asg_jax.engine.placement import OneDevice, Placement
from asg_jax.engine.programs import Lengths
from asg_jax.engine.roles import DrawingRole, TextRole
from asg_jax.engine.state import TrainState
from asg_jax.methods.asg import Asg, Settings
from asg_jax.methods.asg.settings import Temperatures
from asg_jax.models.registry import Model
from asg_jax.objectives.drawings import NFT, BitsGRPO
from asg_jax.objectives.texts import Reinforce
from asg_jax.prompts import SCENES
from asg_jax.prompts.language import Language, Pair
from asg_jax.rollout.text import TextRollout
from asg_jax.signals.table import DRAWINGS, weights_of
from asg_jax.testing import make_tiny

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

FAST = {"learning_rate": 1e-2, "rank": 4, "alpha": 8.0}
SETTINGS = Settings(
    understanding_steps=1,
    generation_steps=1,
    candidates=2,
    framings=3,
    images=3,
    questions=2,
    checks=1,
    retries=1,
    proposer=TextRole(**FAST),
    solver=TextRole(**FAST, objective=Reinforce()),
    generator=DrawingRole(**FAST, objective=NFT()),
    lengths=Lengths(question=10, answer=3, caption=8, spec=4),
    temperatures=Temperatures(answer=0.6),
    sampler=Sampler(grid=(4, 4), steps=3, shift=1.0, guidance=1.0),
    weights=weights_of(
        DRAWINGS, vote_fidelity=0.65, likelihood_cycle=0.2, diversity=0.1, contradiction=-0.2
    ),
    kept_reward=0.445,  # the best drawings of some prompts reach it
)
B = 3  # pictures in a step
IDS = (5, 9, 2)
MODELS = FLOW, BITS = "bagel-tiny", "vargpt-tiny"  # one of each kind
# Marks of tests for one kind alone.
flows, bits = (pytest.mark.parametrize("model", [name], indirect=True) for name in MODELS)
# The marks of tests whose bits compile for long, and of those that take minutes with them.
bits_slowly, bits_long = (
    pytest.mark.parametrize("model", [FLOW, pytest.param(BITS, marks=marks)], indirect=True)
    for marks in (pytest.mark.slow, [pytest.mark.slow, pytest.mark.long])
)


def variants(one: str, other: str) -> pytest.MarkDecorator:
    """A slow test of two variants of a method: either on one kind of model, crosswise if long."""
    crosswise = [
        pytest.param(*pair, marks=pytest.mark.long) for pair in [(FLOW, other), (BITS, one)]
    ]
    pairs = [(FLOW, one), (BITS, other), *crosswise]
    return pytest.mark.parametrize(("model", "name"), pairs, indirect=["model"])


@pytest.fixture(scope="session", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_tiny(request.param, tmp_path_factory.mktemp("tiny"))


def fitting(model: Model, settings: Settings = SETTINGS) -> Settings:
    """Settings with an objective that trains a model of that kind."""
    if model.backbone.spec.kind == "flow":
        return settings
    return replace(settings, generator=replace(settings.generator, objective=BitsGRPO()))


def unified(model: Model) -> UnifiedModel:
    """The model as the engine takes it."""
    return UnifiedModel(model.backbone, model.base, model.processor, model.family.roles)


def make(
    model: Model,
    settings: Settings | None = None,
    placement: Placement | None = None,
    micro: int | None = None,
) -> Asg:
    """The method on a model; programs of one method are compiled once."""
    sizes = {"understanding": B, "generation": B}
    settings = settings or fitting(model)
    return Asg(unified(model), BABBLE, settings, sizes, placement or OneDevice(), micro)


def examples(asg: Asg, step: int = 1, ids: Sequence[int] = IDS, seed: int = 0) -> Examples:
    """Pictures of noise as the examples of a step."""
    shown = pictures(seed, len(ids))
    return Examples(0, step, tuple(ids), tuple(range(len(ids))), asg.prepare(shown))


def moment(asg: Asg, step: int = 1) -> Moment:
    """The same on devices."""
    return asg.engine.moment(examples(asg, step))


def take(asg: Asg, state: TrainState, step: int, **facts: Any) -> tuple[TrainState, Report]:
    """A step and its report."""
    state, later = asg.step(state, examples(asg, step, **facts))
    return state, later()


@pytest.fixture(scope="session")
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
