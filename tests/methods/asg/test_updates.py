"""One optimizer step of a role, and the tools around it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from asg_jax.backbone import LoRA
from asg_jax.methods.asg import updates
from asg_jax.methods.asg.settings import Role, Settings

ROLE = Role(learning_rate=0.1)
PAPER = Settings()


def adapter(value: float = 1.0) -> dict[str, LoRA]:
    return {"m": LoRA(jnp.full((2, 3), value), jnp.full((3, 2), value), 2.0)}


def square(kl=0.05, kept=True, scale=1.0) -> updates.Loss:
    """A bowl around zero."""

    def loss(tree):
        value = jnp.stack([(leaf**2).sum() for leaf in jax.tree.leaves(tree)]).sum() * scale
        measured = updates.Measured(jnp.full(2, kl), jnp.array([kept, False]), {"own": value})
        return value, measured

    return loss


def after(settings=PAPER, role=ROLE, **kwargs) -> updates.Improved:
    state = updates.start(settings, role, adapter())
    return jax.jit(lambda state: updates.improve(settings, role, state, square(**kwargs)))(state)


def leaves(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_a_step_goes_downhill_and_is_averaged() -> None:
    improved = after(Settings(average_decay=0.75, weight_decay=0.0))
    np.testing.assert_allclose(leaves(improved.state.adapter), 0.9, atol=1e-5)
    np.testing.assert_allclose(leaves(improved.state.average), 0.975, atol=1e-5)
    assert int(improved.skipped) == 0
    assert improved.metrics["own"] == improved.metrics["loss"] == 12
    assert improved.metrics["kl"] == pytest.approx(0.05)


def test_the_rate_grows_over_the_warm_up() -> None:
    settings = Settings(warmup=4, weight_decay=0.0)
    state, values = updates.start(settings, ROLE, adapter()), [1.0]
    for _ in range(5):
        state = updates.improve(settings, ROLE, state, square()).state
        values.append(leaves(state.adapter)[0])
    np.testing.assert_allclose(-np.diff(values), [0.025, 0.05, 0.075, 0.1, 0.1], rtol=0.05)


@pytest.mark.parametrize(
    ("kwargs", "skipped"),
    [({"kept": False}, 0), ({"scale": jnp.nan}, 1), ({"scale": jnp.inf}, 1)],
)
def test_without_a_finite_loss_on_something_all_stays(kwargs, skipped: int) -> None:
    improved = after(**kwargs)
    before = updates.start(PAPER, ROLE, adapter())
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, improved.state, before)))
    assert int(improved.skipped) == skipped


def test_a_rate_of_zero_freezes_a_role() -> None:
    improved = after(role=Role(learning_rate=0.0))
    assert np.all(leaves(improved.state.adapter) == 1)


def test_the_kl_coefficient_follows_the_drift() -> None:
    low, high = after(kl=0.0).state, after(kl=0.1).state
    assert low.kl_coefficient < ROLE.kl_start < high.kl_coefficient


def test_the_penalty_can_be_switched_off() -> None:
    state = updates.start(PAPER, ROLE, adapter())
    assert updates.penalty(PAPER, state) == pytest.approx(0.01)
    assert updates.penalty(Settings(kl=False), state) == 0


def test_the_gradient_is_clipped() -> None:
    """Adam hides a scale from the first step, but not from its memory."""
    wide, narrow = after(Settings(clip_norm=1e3)), after(Settings(clip_norm=1.0))
    size = lambda improved: np.linalg.norm(leaves(improved.state.optimizer[1][0].mu)) / 0.1
    assert size(narrow) == pytest.approx(1.0, rel=1e-4)
    assert size(wide) == pytest.approx(float(wide.metrics["gradient"]), rel=1e-4)


@examples(max_examples=20)
@given(st.lists(st.booleans(), min_size=6, max_size=6), st.integers(0, 99))
def test_dealing_permutes_what_counts(kept: list[bool], seed: int) -> None:
    rewards, mask = jnp.arange(6.0).reshape(2, 3), jnp.array(kept).reshape(2, 3)
    dealt = updates.deal(rewards, mask, jax.random.key(seed))
    assert sorted(dealt[mask].tolist()) == sorted(rewards[mask].tolist())
    assert dealt[~mask].tolist() == rewards[~mask].tolist()


def test_dealing_reaches_every_order_about_equally_often() -> None:
    many = jax.vmap(lambda key: updates.deal(jnp.arange(3.0), jnp.array([True, True, True]), key))
    dealt = many(jax.random.split(jax.random.key(0), 600)).tolist()
    counts = [dealt.count(order) for order in map(list, {tuple(row) for row in dealt})]
    assert len(counts) == 6 and 70 < min(counts) and max(counts) < 130


def test_groups_of_equal_rewards_are_counted() -> None:
    rewards = jnp.array([[1.0, 1.0, 5.0], [0.0, 2.0, 5.0], [5.0, 5.0, 5.0]])
    mask = jnp.array([[True, True, False], [True, True, False], [False, False, False]])
    found = updates.spread("role", rewards, mask)
    assert found["reward/role"] == 1
    assert found["reward/role_std"] == pytest.approx(np.sqrt(0.5))
    assert found["reward/role_flat"] == 0.5
