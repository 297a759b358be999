"""The golden BAGEL model, loaded once, and its protocol functions, compiled once."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Image, Params, Prompt, host
from asg_jax.models.bagel import checkpoint
from asg_jax.models.bagel.backbone import BagelBackbone
from asg_jax.models.bagel.model import Bagel
from asg_jax.models.bagel.processor import BagelProcessor, patches
from asg_jax.models.pictures import bucket
from tests import goldens
from tests.models.loaded import LoadedModel


@dataclass
class Loaded(LoadedModel):
    """BAGEL with its processor."""

    backbone: BagelBackbone
    processor: BagelProcessor

    def network(self) -> Bagel:
        """The NNX network, for what the protocol does not show."""
        return self.backbone.model(self.params)


@pytest.fixture(scope="session")
def bagel() -> Loaded:
    """The golden tiny BAGEL in float32."""
    folder = goldens.folder("bagel/model")
    backbone, base = checkpoint.load(folder, "float32")
    processor = BagelProcessor.load(folder, backbone.config)
    return Loaded(backbone, Params(base), processor)


def image_of(pictures: list[np.ndarray], side: int) -> Image:
    """An `Image` of normalised CHW arrays, padded to a bucket as the processor does."""
    rows = [np.asarray(patches(chw.transpose(1, 2, 0) * 0.5 + 0.5, side)) for chw in pictures]
    grids = np.array([[chw.shape[1] // side, chw.shape[2] // side] for chw in pictures], np.int32)
    count = bucket(max(map(len, rows)))
    padded = np.stack([np.pad(row, ((0, count - len(row)), (0, 0))) for row in rows])
    mask = np.arange(count) < grids.prod(1)[:, None]
    image = Image(host(padded), host(grids), host(mask))
    return jax.tree.map(jnp.asarray, image)


def filled(loaded: Loaded, prompt: Prompt, images: list[Image]) -> Prompt:
    """A prompt on the device, with the rows of its pictures encoded."""
    prompt = jax.tree.map(jnp.asarray, prompt)
    if not images:
        return prompt
    rows = [loaded.jit("encode_image")(image) for image in images]
    return replace(prompt, features=jnp.concatenate(rows, axis=1))


def logits(loaded: Loaded, hidden) -> jax.Array:
    """Logits of final hidden states."""
    return hidden @ loaded.backbone.unembedding(loaded.params).T


def greedy(loaded: Loaded, prompt: Prompt, count: int) -> tuple[list[int], np.ndarray]:
    """The most probable continuation of a prompt, and the logits of every step."""
    prefix = loaded.jit("prefill")(prompt)
    nothing = jnp.zeros((1, 1, 0), jnp.int32)
    hidden, cache = loaded.jit("extend", "room")(nothing, nothing.astype(bool), prefix, room=count)
    tokens, steps = [], []
    for _ in range(count):
        steps.append(np.asarray(logits(loaded, hidden)[0, 0]))
        tokens.append(int(steps[-1].argmax()))
        hidden, cache = loaded.jit("decode")(jnp.full((1, 1), tokens[-1]), cache)
    return tokens, np.stack(steps)
