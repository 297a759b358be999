"""The training forward of BAGEL: next tokens of text and velocities of noisy pictures."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.models.bagel.layout import TrainingBatch
from asg_jax.models.bagel.model import Bagel
from asg_jax.ops.vocab import token_stats
from asg_jax.pytree import pytree


@pytree
class Losses:
    """Losses per element, before any mean.

    Attributes:
      ce: cross-entropy (nats) of each text row's label; 0 where there is none.
      mse: squared error of the velocity of each latent row; 0 for clean and padding rows.
      hidden: final states of the text rows.
      velocity: predicted velocity (noise - data) of the latent rows.
    """

    ce: Float[Array, "B U"]
    mse: Float[Array, "B L C"]
    hidden: Float[Array, "B U D"]
    velocity: Float[Array, "B L C"]


def visible(batch: TrainingBatch) -> Bool[Array, "B 1 T T"]:
    """Which rows (last axis) each row sees: noisy rows are seen by their own segment alone."""
    query, key = batch.prompt.order[:, :, None], batch.prompt.order[:, None, :]
    seen = jnp.where(batch.noisy[:, None, :], key == query, key <= query)
    return (seen & batch.prompt.mask[:, None, :])[:, None]


def training_losses(model: Bagel, batch: TrainingBatch) -> Losses:
    """One pass over a batch; times are shifted by the configuration's `timestep_shift`."""
    prompt = batch.prompt
    if batch.images:
        features = jnp.concatenate([model.image_rows(image) for image in batch.images], axis=1)
        prompt = replace(prompt, features=features)
    times = _times(batch.raw_time, model.config.timestep_shift)
    t = jnp.take_along_axis(times, batch.picture, axis=1)[..., None]
    embedded = jnp.take_along_axis(model.embed_time(times), batch.picture[..., None], axis=1)
    noisy = (1 - t) * batch.latents + t * batch.noise
    text = model.language.rows(prompt)[0]
    streams = (text, model.latent_rows(noisy, embedded, batch.place)[:, None])
    (hidden, latent), _ = model.language(streams, prompt.positions[:, None], visible(batch))
    hidden, velocity = hidden[:, 0], model.llm2vae(latent[:, 0]).astype(jnp.float32)
    stats = token_stats(hidden, model.language.lm_head.table[...], jnp.maximum(batch.labels, 0))
    real = (t > 0) & prompt.mask[:, hidden.shape[1] :, None]
    return Losses(
        ce=jnp.where(batch.labels >= 0, -stats.log_prob, 0.0),
        mse=jnp.where(real, (velocity - (batch.noise - batch.latents)) ** 2, 0.0),
        hidden=hidden,
        velocity=velocity,
    )


def mean_losses(
    losses: Losses, batch: TrainingBatch, reweight: bool = False
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean cross-entropy and mean squared error over everything that carries a loss.

    With `reweight` the labels of a segment together weigh the root of their number.
    """
    labelled = batch.labels >= 0
    weights = jnp.where(labelled, batch.weights if reweight else 1.0, 0.0)
    ce = jnp.sum(losses.ce * weights) / jnp.maximum(jnp.sum(weights), 1e-8)
    latent_rows = batch.noisy[:, batch.labels.shape[1] :]
    count = jnp.maximum(jnp.sum(latent_rows), 1)
    return ce, jnp.sum(losses.mse.mean(-1)) / count


def _times(raw: Float[Array, "B K"], shift: float) -> Float[Array, "B K"]:
    """Shifted sigmoid of normal draws; -inf is a clean picture, t = 0."""
    u = jax.nn.sigmoid(raw)
    return shift * u / (1 + (shift - 1) * u)
