"""What an update takes of a group, and that only that is computed."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.engine.selection import Accepted, AcceptedPair, Everyone, Extremes
from asg_jax.objectives.advantages import GroupStatistic, group_advantages
from asg_jax.rollout.image import Drawings

REWARDS = jnp.array([[0.2, 0.9, 0.6], [0.4, 0.4, 0.4]])
EVERYONE = jnp.ones(REWARDS.shape, bool)


def test_everyone_counts_by_a_statistic() -> None:
    statistic = GroupStatistic(ddof=1, eps=1e-4)
    choice = Everyone(statistic).choose(REWARDS, EVERYONE)
    assert choice.places is None and choice.kept.all()
    np.testing.assert_array_equal(choice.advantages, group_advantages(REWARDS, EVERYONE, statistic))


def test_extremes_are_opposed() -> None:
    choice = Extremes().choose(REWARDS, EVERYONE)
    places: Any = choice.places
    np.testing.assert_array_equal(places[0], [1, 0])
    np.testing.assert_array_equal(choice.advantages, [[1, -1]] * 2)
    np.testing.assert_array_equal(choice.kept, [[True, True], [False, False]])
    assert Extremes(count=3).least == 6


def test_what_is_accepted_counts_alike() -> None:
    choice = Accepted(0.6).choose(REWARDS, EVERYONE)
    np.testing.assert_array_equal(choice.kept, [[False, True, True], [False] * 3])
    assert (choice.advantages == 1).all()
    pair = AcceptedPair(0.4).choose(REWARDS, EVERYONE)
    places: Any = pair.places
    np.testing.assert_array_equal(places[0], [1, 0])
    np.testing.assert_array_equal(pair.kept, [[True, True], [False, False]])


def test_picked_drawings_bring_all_that_is_theirs() -> None:
    rng = np.random.default_rng(0)
    array = lambda *shape: jnp.asarray(rng.normal(size=shape))
    drawn: Any = Drawings(
        values=array(2, 3, 4, 5),
        pixels=array(2, 3, 6, 6, 3),
        pictures=array(2, 3, 6, 6, 3).astype(jnp.uint8),
        keys=jax.random.split(jax.random.key(0), 2),
        latents=array(2, 7, 3, 4, 5),
        log_probs=array(2, 6, 3),
    )
    places = jnp.array([[2, 0], [1, 1]])
    got: Any = drawn.pick(places)
    for n, own in enumerate(places.tolist()):
        np.testing.assert_array_equal(got.values[n], drawn.values[n][own, :])
        np.testing.assert_array_equal(got.latents[n], drawn.latents[n][:, own])
        np.testing.assert_array_equal(got.log_probs[n], drawn.log_probs[n][:, own])
    bits = replace(drawn, latents=None, log_probs=drawn.values)
    np.testing.assert_array_equal(bits.pick(places).log_probs, got.values)
