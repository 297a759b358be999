"""Maps of weights: what the two forms do with bad regions, and even regions."""

import jax.numpy as jnp
import numpy as np

from asg_jax.signals.regions import grid_boxes, reward_map, shrink

BOXES = jnp.array([[0, 0, 2, 2], [1, 1, 4, 4]])


def test_only_the_papers_form_repels():
    scores, overall = jnp.array([-0.8, 0.4]), jnp.array(1.0)
    release = reward_map(BOXES, scores, overall, (4, 4))
    paper = reward_map(BOXES, scores, overall, (4, 4), "paper")
    assert (release >= 0.5).all()
    np.testing.assert_allclose(
        paper, [[-0.8, -0.8, 0, 0], [-0.8, 0.4, 0.4, 0.4], [0, 0.4, 0.4, 0.4], [0, 0.4, 0.4, 0.4]]
    )
    np.testing.assert_allclose(reward_map(BOXES, scores, 0 * overall, (4, 4), "paper"), paper / 2)


def test_an_even_grid_covers_every_pixel_once():
    boxes = grid_boxes((5, 7), (2, 3))
    cover = sum(reward_map(b[None], jnp.ones(1), jnp.array(1.0), (5, 7), "paper") for b in boxes)
    np.testing.assert_array_equal(cover, np.ones((5, 7)))


def test_batches_are_maps_of_their_own():
    scores, overall = jnp.array([[0.1, 0.2], [-0.5, 0.9]]), jnp.array([0.3, -0.2])
    boxes = jnp.broadcast_to(BOXES, (2, 2, 4))
    both = reward_map(boxes, scores, overall, (4, 4))
    one = reward_map(BOXES, scores[1], overall[1], (4, 4))
    np.testing.assert_allclose(both[1], one, rtol=1e-6)
    assert shrink(both, (2, 2)).shape == (2, 2, 2)
