"""Does the image say what the prompt said: similarity of prompt, image and the image's caption.

Ask, Solve, Generate (arXiv 2606.27376), generation step.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.ops.masked import masked_mean

SCALE = 0.1  # nats per token: a caption of ten tokens that is e times as likely makes one unit


def embedding(
    states: Float[Array, "*batch T D"], mask: Bool[Array, "*batch T"]
) -> Float[Array, "*batch D"]:
    """L2-normalised mean of the rows that count, in at least float32.

    Rows are final hidden states of the frozen model at text or image positions, or image features.
    """
    rows = states.astype(jnp.promote_types(states.dtype, jnp.float32))
    mean = masked_mean(rows, mask[..., None], axis=-2)
    square = (mean**2).sum(-1, keepdims=True)
    return mean / jnp.sqrt(jnp.maximum(square, jnp.finfo(mean.dtype).tiny))


def similarity(a: Float[Array, "*batch D"], b: Float[Array, "*#batch D"]) -> Float[Array, "*batch"]:
    """Cosine of two embeddings; what is below 0 counts as 0."""
    return jnp.clip((a * b).sum(-1), 0, 1)


def likelihood_similarity(
    log_likelihoods: Float[Array, "*batch L"], mask: Bool[Array, "*#batch #L"]
) -> Float[Array, "*batch L"]:
    """How well each image of a group explains the prompt, in (0, 1); 1/2 is the group's mean.

    Stands in for the image-text similarity where a backbone's embeddings do not tell matched pairs
    from others. Log-likelihoods are squashed at a fixed SCALE: in standard deviations, a group of
    equally good images would be told apart by noise.

    Args:
      log_likelihoods: how likely the prompt is given each image, in nats per token.
      mask: which images exist.
    """
    centre = masked_mean(log_likelihoods, mask, axis=-1)[..., None]
    return jax.nn.sigmoid((log_likelihoods - centre) / SCALE)


def cycle_score(
    caption_similarity: Float[Array, "*batch"], image_similarity: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """S_cyc: half from prompt and caption of the image, half from prompt and image."""
    return 0.5 * caption_similarity + 0.5 * image_similarity
