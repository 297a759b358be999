"""The network of BAGEL: language model, vision tower, connectors and autoencoder."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from asg_jax.backbone import Image, Prefix
from asg_jax.models.bagel.config import BagelConfig
from asg_jax.models.bagel.vision import VisionTower, grid_positions
from asg_jax.models.layers.context import prefix_block
from asg_jax.models.layers.embeddings import TimestepEmbedding, sincos_2d
from asg_jax.models.layers.language import LanguageModel, Streams
from asg_jax.models.layers.linear import Linear
from asg_jax.models.layers.mlp import MLP
from asg_jax.models.layers.vae import VAE


class Bagel(nnx.Module):
    """All parameters; the two position tables are fixed, but stand in the checkpoint."""

    def __init__(self, config: BagelConfig, *, rngs: nnx.Rngs):
        width, channels = config.language.width, config.token_channels
        table = lambda side: nnx.Param(jnp.asarray(sincos_2d(side, width, config.position_period)))
        self.config = config
        self.language = LanguageModel(config.language, rngs=rngs)
        self.vision = VisionTower(config.vision, rngs=rngs)
        self.connector = MLP(
            config.vision.width, width, width, config.connector_activation, rngs=rngs
        )
        self.vision_positions = table(config.vision.side)
        self.latent_positions = table(config.latent_side)
        self.time_embedder = TimestepEmbedding(width, rngs=rngs)
        self.vae2llm = Linear(channels, width, rngs=rngs)
        self.llm2vae = Linear(width, channels, rngs=rngs)
        self.vae = VAE(config.vae, rngs=rngs)

    def image_rows(self, image: Image) -> Float[Array, "B N D"]:
        """Vision features as the language model reads them."""
        rows = self.connector(self.vision(image))
        return rows + _fixed(self.vision_positions)[self.vision.positions(image)].astype(rows.dtype)

    def latent_rows(
        self,
        x: Float[Array, "*batch L C"],
        time: Float[Array, "*batch #L D"],
        places: Int[Array, "*#batch L"],
    ) -> Float[Array, "*batch L D"]:
        """Latent tokens as the language model reads them.

        Args:
          x: tokens, clean or noisy.
          time: embedded times (`embed_time`), one for all rows or one for each; clean is t = 0.
          places: rows of the position table.
        """
        dtype = self.config.language.dtype
        rows = self.vae2llm(x.astype(dtype)) + time
        return rows + _fixed(self.latent_positions)[places].astype(dtype)

    def embed_time(self, t: Float[Array, "*batch"]) -> Float[Array, "*batch D"]:
        """Time embedding of t in [0, 1]."""
        return self.time_embedder(t, self.config.language.dtype)

    def places(self, grid: tuple[int, int]) -> Int[Array, " L"]:
        """Rows of the latent position table for a picture of that grid."""
        return grid_positions(jnp.array([grid]), grid[0] * grid[1], self.config.latent_side)[0]

    def velocity(
        self,
        prefix: Prefix,
        x: Float[Array, "B G L C"],
        t: Float[Array, "B G"],
        grid: tuple[int, int],
    ) -> Float[Array, "B G L C"]:
        """Velocity (noise - data) of noisy latents after a context.

        The segment is start marker, latents, end marker, all at the context's next position and
        all seeing each other; the markers belong to the text expert.
        """
        streams, positions = self.noisy_streams(prefix, x, t, grid)
        (_, hidden), _ = self.language(streams, positions, None, (prefix_block(prefix),))
        return self.llm2vae(hidden).astype(jnp.float32)

    def noisy_streams(
        self,
        prefix: Prefix,
        x: Float[Array, "B G L C"],
        t: Float[Array, "B G"],
        grid: tuple[int, int],
    ) -> tuple[Streams, Int[Array, "B G T 1"]]:
        """Input rows of the segment of a noisy picture (markers, then latents), their indexes."""
        tokens = self.config.tokens
        markers = self.language.tokens(jnp.array([tokens.image_start, tokens.image_end]))
        markers = jnp.broadcast_to(markers, (*x.shape[:2], *markers.shape))
        rows = self.latent_rows(x, self.embed_time(t)[..., None, :], self.places(grid))
        count = markers.shape[2] + rows.shape[2]
        positions = jnp.broadcast_to(prefix.position[:, None, None, None], (*x.shape[:2], count, 1))
        return (markers, rows), positions

    def patchify(self, latents: Float[Array, "*batch h w c"]) -> Float[Array, "*batch L C"]:
        """Latents (channels last) to tokens: row-major patches of (row, column, channel)."""
        p = self.config.latent_patch
        return rearrange(latents, "... (h p) (w q) c -> ... (h w) (p q c)", p=p, q=p)

    def unpatchify(
        self, tokens: Float[Array, "*batch L C"], grid: tuple[int, int]
    ) -> Float[Array, "*batch h w c"]:
        """Inverse of `patchify`."""
        p = self.config.latent_patch
        return rearrange(
            tokens, "... (h w) (p q c) -> ... (h p) (w q) c", h=grid[0], w=grid[1], p=p, q=p
        )


def _fixed(table: nnx.Param) -> Array:
    return jax.lax.stop_gradient(table[...])
