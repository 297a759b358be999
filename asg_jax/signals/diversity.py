"""How much each image of a group adds to the group's variety.

Ask, Solve, Generate (arXiv 2606.27376), generation step.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.ops.masked import masked_mean


def pairwise_distances(embeddings: Float[Array, "*batch L D"]) -> Float[Array, "*batch L L"]:
    """1 - cosine of L2-normalised image embeddings (`cycle.embedding`), in [0, 1]."""
    # The default precision of a matmul on TPU would blur the distances of similar images.
    cosine = jnp.einsum("...id,...jd->...ij", embeddings, embeddings, precision="highest")
    return jnp.clip(1 - cosine, 0, 1)


def leave_one_out_diversity(
    distances: Float[Array, "*batch L L"], mask: Bool[Array, "*#batch #L"]
) -> Float[Array, "*batch L"]:
    """What the mean pairwise distance loses without an image, relative to the largest loss.

    With r_i the sum of image i's distances, that loss is 2 (r_i - mean r) / ((L - 1) (L - 2)), of
    which only differences of r remain after the division. Two images both get their distance; a
    single one, images that differ equally from the others, and absent ones get 0.

    Args:
      distances: symmetric, in [0, 1]; the diagonal does not count.
      mask: which images exist.
    """
    mask = jnp.broadcast_to(mask, distances.shape[:-1])
    reach = jnp.where(_pairs(mask), distances, 0).sum(-1)
    count = mask.sum(-1, keepdims=True)
    mean = reach.sum(-1, keepdims=True) / jnp.maximum(count, 1)
    gain = jnp.where(mask, jnp.maximum(0, reach - mean), 0)
    largest = gain.max(-1, keepdims=True)
    # What is rounding must not become a diversity of 1.
    floor = max(1e-8, 16 * float(jnp.finfo(distances.dtype).eps))
    relative = gain / jnp.where(largest > floor, largest, jnp.inf)
    return jnp.where(count > 2, relative, reach)


def mean_distance(
    distances: Float[Array, "*batch L L"], mask: Bool[Array, "*batch L"]
) -> Float[Array, ""]:
    """How different the images of a group are: the mean over the pairs of all groups, in [0, 1].

    Args:
      distances: symmetric, in [0, 1]; the diagonal does not count.
      mask: which images exist.
    """
    return masked_mean(distances, _pairs(mask))


def _pairs(mask: Bool[Array, "*batch L"]) -> Bool[Array, "*batch L L"]:
    """Two different images that both exist."""
    return mask[..., :, None] & mask[..., None, :] & ~jnp.eye(mask.shape[-1], dtype=bool)
