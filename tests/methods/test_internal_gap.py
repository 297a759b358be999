"""Internal Gap on tiny random models: data, pairs, and the pool of refused prompts."""

import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.engine.pool import Pool, Queue, empty_pool, sort_pool, waiting
from tests.methods.relatives import make, moved, run
from tests.tiny import variants


@pytest.mark.slow
@variants("internal_gap_sft", "internal_gap_dpo")
def test_refused_prompts_wait_and_come_again(model, name: str) -> None:
    method = make(model, name, drawing_steps=1, replay_steps=1, pool=4)
    first, last, (drawn, again) = run(method, 2)
    assert (drawn.phase, again.phase) == ("generation", "replay")
    refused = drawn.metrics["check/non_unification"]
    pool = waiting(method.engine, last.memory.own)
    assert all(text in {row["prompt"] for row in drawn.rows} for _, text in pool)
    if name == "internal_gap_sft":
        assert moved(first, last) == ({"generator"} if refused < 1 else set())
        np.testing.assert_allclose(
            drawn.metrics["check/learned"], np.mean([row["learned"] for row in drawn.rows])
        )


def queue(ids, place) -> Queue:
    ids = jnp.asarray(ids)
    return Queue(ids, ids > 0, jnp.asarray(place))


def held(pool: Pool) -> list[list[int]]:
    return [row[real].tolist() for row, real in zip(pool.ids, pool.mask, strict=True) if real.any()]


def test_the_pool_keeps_what_is_refused_and_drops_the_oldest() -> None:
    pool = empty_pool(3, 2)
    new = queue([[1, 0], [2, 2], [0, 0], [3, 0]], [-1] * 4)  # the third is no prompt
    pool = sort_pool(pool, new, jnp.array([False, True, False, False]))
    assert held(pool) == [[1], [3]]
    places = [n for n in range(3) if pool.mask[n].any()]
    old = queue([[1, 0], [3, 0]], places)
    pool = sort_pool(pool, old, jnp.array([True, False]))
    assert held(pool) == [[3]]  # accepted at last, and still refused: it waits once, not twice
    pool = sort_pool(pool, queue([[4, 0], [5, 0], [6, 0]], [-1] * 3), jnp.zeros(3, bool))
    assert held(pool) == [[4], [5], [6]]
