"""The golden VARGPT-v1.1, loaded once, and its protocol functions, compiled once."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Params, Prompt, host
from asg_jax.models.vargpt import checkpoint
from asg_jax.models.vargpt.backbone import VargptBackbone
from asg_jax.models.vargpt.model import Vargpt
from asg_jax.models.vargpt.scales import Schedule
from tests.models.loaded import LoadedModel
from tests.models.vargpt.golden import grid, make_folder


@dataclass
class Loaded(LoadedModel):
    """VARGPT, and how the golden files put prompts and pictures."""

    backbone: VargptBackbone

    def network(self) -> Vargpt:
        """The NNX network, for what the protocol does not show."""
        return self.backbone.model(self.params)

    def schedule(self, tag: str) -> Schedule:
        """The scales of the square (sq) or the other (ns) picture of the golden files."""
        return self.backbone.config.schedule(grid(tag))

    def pixels(self, tag: str) -> tuple[int, int]:
        """Height and width of that picture."""
        height, width = grid(tag)
        size = self.backbone.spec.token_pixels
        return height * size, width * size

    def prompt(self, ids: np.ndarray) -> Prompt:
        """Rows of plain text with equal indexes on all axes."""
        batch, length = ids.shape
        steps = np.arange(length, dtype=np.int32)
        every = np.broadcast_to(steps, ids.shape)
        prompt = Prompt(
            ids=host(ids.astype(np.int32)),
            slot=host(np.full(ids.shape, -1, np.int32)),
            positions=host(np.broadcast_to(steps[:, None], (batch, length, 3))),
            order=host(every),
            mask=host(np.ones(ids.shape, bool)),
        )
        return jax.tree.map(jnp.asarray, prompt)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The golden model as an official folder."""
    return make_folder(tmp_path_factory.mktemp("vargpt"))


@pytest.fixture(scope="session")
def vargpt(folder) -> Loaded:
    """The golden tiny VARGPT-v1.1 in float32."""
    backbone, base = checkpoint.load(folder, "float32")
    return Loaded(backbone, Params(base))
