"""The small models of the package with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jax

if TYPE_CHECKING:  # the core imports no models until one is asked for
    from asg_jax.models.registry import Model


def make_tiny(size: str, folder: Path, seed: int = 0) -> Model:
    """A model that speaks the language of rendered scenes and knows nothing yet.

    Args:
      size: one that pre-training starts from, such as bagel-tiny or vargpt-tiny.
      folder: takes its json and tokenizer files.
      seed: gives the weights.

    Raises:
      UserError: there is no such size.
    """
    from asg_jax.models.registry import Model, small_family
    from asg_jax.train.data.grammar import vocabulary

    kind = small_family(size)
    kind.create(size, folder, vocabulary())
    backbone, processor = kind.open(folder, "float32")
    base = jax.jit(backbone.init_base)(jax.random.key(seed))
    return Model(backbone, base, processor, kind, folder)
