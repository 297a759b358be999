"""A tiny model of random weights that speaks the words of the language."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.models.registry import Model, small_family
from asg_jax.train.data.grammar import vocabulary


def random_model(folder: Path, seed: int = 0) -> Model:
    """A model whose weights are large enough for answers that differ from question to question.

    They are drawn by NumPy: compiling the network's own initialisation takes seconds.
    """
    kind = small_family("bagel-tiny")
    kind.create("bagel-tiny", folder, vocabulary())
    backbone, processor = kind.open(folder, "float32")
    rng = np.random.default_rng(seed)

    def draw(path: Sequence[Any], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if path[-1].key in ("weight", "bias"):  # a norm's scale, and what is added
            return jnp.full(leaf.shape, float(path[-1].key == "weight"))
        inputs = leaf.shape[-2] if leaf.ndim == 3 else math.prod(leaf.shape[:-1])
        return jnp.asarray(3 / math.sqrt(inputs) * rng.standard_normal(leaf.shape), leaf.dtype)

    base = jax.tree.map_with_path(draw, backbone.abstract_base("float32"))
    return Model(backbone, base, processor, kind, folder)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return random_model(tmp_path_factory.mktemp("model"))
