"""The update rules of pre-training, and which parameters get which."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asg_jax.backbone import Params
from asg_jax.models.registry import small_family
from asg_jax.train.data.grammar import vocabulary
from asg_jax.train.pretrain import lessons as data
from asg_jax.train.pretrain.losses import drawing_loss, text_loss
from asg_jax.train.pretrain.optimizer import optimizer, two_rates
from asg_jax.train.pretrain.settings import Lane, PretrainSettings

SETTINGS = PretrainSettings(scenes=4, prompts=2, draws=1)
LANES = (Lane((("answer", 1.0),), pictures=1, contexts=1, texts=1, length=24),)


def test_the_rate_rises_and_falls():
    params: Any = {"norm": jnp.zeros(1)}  # Adam: every step has the size of the rate
    rule = optimizer(1.0, steps=4, warmup=2)
    state, sizes = rule.init(params), []
    moved: Any
    for _ in range(4):
        moved, state = rule.update({"norm": jnp.ones(1)}, state, params)
        sizes.append(-float(moved["norm"][0]))
    np.testing.assert_allclose(sizes, [0, 0.5, 1, 0.5], rtol=0.2)  # but for the look ahead


def test_only_what_the_pattern_finds_moves_at_the_special_rate():
    params: Any = {name: {"kernel": jnp.eye(3), "bias": jnp.zeros(3)} for name in ("read", "draw")}
    rule = two_rates(optax.set_to_zero(), optimizer(1.0, steps=4, warmup=0), r"^draw\.")
    moved: Any = rule.update(jax.tree.map(jnp.ones_like, params), rule.init(params), params)[0]
    assert not any(leaf.any() for leaf in moved["read"].values())
    assert all(leaf.any() for leaf in moved["draw"].values())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, family = tmp_path_factory.mktemp("tiny"), small_family("bagel-tiny")
    family.create("bagel-tiny", folder, vocabulary())
    backbone, processor = family.open(folder, "float32")
    base = jax.jit(backbone.init_base)(jax.random.key(0))
    dotted = lambda path: ".".join(str(entry.key) for entry in path)
    lost = lambda path, leaf: leaf * jnp.nan if re.search(family.draws, dotted(path)) else leaf
    return backbone, processor, Params(jax.tree.map_with_path(lost, base))


def test_texts_do_not_need_the_parameters_of_drawing(model, monkeypatch):
    backbone, processor, params = model
    monkeypatch.setattr(data, "LANES", LANES)
    lesson = data.lessons(SETTINGS, processor, 0)
    assert jnp.isfinite(jax.jit(text_loss, static_argnums=0)(backbone, params, lesson.texts[0]))
    draw = jax.jit(drawing_loss, static_argnums=(0, 4, 5))
    assert jnp.isnan(draw(backbone, params, lesson.drawing, jax.random.key(0), 1, 3.0))
