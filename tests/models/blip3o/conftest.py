"""The golden BLIP3o, loaded once, and its protocol functions, compiled once."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from asg_jax.backbone import Params, Prompt
from asg_jax.models.blip3o import checkpoint
from asg_jax.models.blip3o.backbone import Blip3oBackbone
from asg_jax.models.blip3o.model import Blip3o
from asg_jax.models.layers.qwen.layout import layout
from tests import goldens
from tests.models.blip3o.golden import make_folder
from tests.models.loaded import LoadedModel
from tests.models.qwen import image_of, segments


@dataclass
class Loaded(LoadedModel):
    """BLIP3o, and how the golden files put prompts, pictures and features."""

    backbone: Blip3oBackbone

    def network(self) -> Blip3o:
        """The NNX network, for what the protocol does not show."""
        return self.backbone.model(self.params)

    def tokens(self, latents: np.ndarray) -> jax.Array:
        """Features of the official layout (channels, height, width) as tokens."""
        return jnp.asarray(rearrange(latents, "... c h w -> ... (h w) c"))

    def latents(self, tokens) -> np.ndarray:
        """The way back."""
        side = self.backbone.config.dit.side
        return rearrange(np.asarray(tokens), "... (h w) c -> ... c h w", h=side)

    def prompt(self, rows, names=(), plain=False) -> Prompt:
        """Prompts of token ids; every conversation shows the golden pictures `names[n]`."""
        golden, config = goldens.arrays("blip3o/preprocess.safetensors"), self.backbone.config
        grids = [golden[f"{name}.grid_thw"][0, 1:] for name in names]
        picture = config.tokens.picture
        conversations = [
            segments(row, [grids[n] // config.vision.merge] if names else [], [0], picture)
            for n, row in enumerate(rows)
        ]
        prompt = jax.tree.map(jnp.asarray, layout(conversations, plain))
        if not names:
            return prompt
        image = image_of([golden[f"{name}.pixel_values"] for name in names], grids)
        return replace(prompt, features=self.jit("encode_image")(image))

    def drawing(self, ids, names=()) -> Prompt:
        """A prompt of token ids with the marker that starts a picture."""
        start = self.backbone.config.tokens.draw_start
        return self.prompt([np.append(ids, start)], names, plain=True)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The golden model as an official folder."""
    return make_folder(tmp_path_factory.mktemp("blip3o"))


@pytest.fixture(scope="session")
def blip3o(folder) -> Loaded:
    """The golden tiny BLIP3o in float32, with EVA-CLIP."""
    backbone, base = checkpoint.load(folder, "float32", targets=True)
    return Loaded(backbone, Params(base))
