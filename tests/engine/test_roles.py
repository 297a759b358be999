"""One optimizer step of a role, on losses that are computed by hand."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.adapters import LoRASpec, dropped
from asg_jax.backbone import LoRA
from asg_jax.engine.roles import (
    Improved,
    Optimizer,
    Role,
    adapted,
    improve,
    moving_average,
    named,
    start,
)
from asg_jax.errors import UserError
from asg_jax.objectives.losses import Losses

ROLE = Role(learning_rate=0.1)
PAPER = Optimizer()
PLAIN = Optimizer(weight_decay=0.0)
KEY = jax.random.key(0)
close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def adapter(value: float = 1.0) -> dict[str, LoRA]:
    return {"m": LoRA(jnp.full((2, 3), value), jnp.full((3, 2), value), 2.0)}


def leaves(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def examples(drift=0.05, kept=True, scale=1.0, count: int = 4) -> dict[str, jax.Array]:
    """Two samples of each example, of which the second never counts."""
    row = lambda x: jnp.stack([jnp.full(count, x), jnp.full(count, x)], axis=1)
    second = jnp.array([True, False])
    return {
        "drift": row(drift),
        "scale": row(jnp.float32(scale)),
        "kept": row(jnp.bool_(kept)) & second,
    }


def bowl(tree, part, beta) -> Losses:
    """A bowl around zero."""
    square = jnp.stack([(leaf**2).sum() for leaf in jax.tree.leaves(tree)]).sum()
    values = part["scale"] * square + beta * part["drift"]
    measures = {"own": values, "own_max": part["scale"]}
    return Losses(values, part["kept"], part["drift"], measures)


def after(optimizer=PAPER, role=ROLE, **kwargs) -> Improved:
    state = start(optimizer, role, adapter())
    run = jax.jit(lambda state, part: improve(optimizer, role, state, bowl, part, KEY))
    return run(state, examples(**kwargs))


def assert_as_it_was(improved: Improved, optimizer=PAPER, role=ROLE, value: float = 1.0) -> None:
    before = start(optimizer, role, adapter(value))
    jax.tree.map(np.testing.assert_array_equal, improved.state, before)
    assert not improved.taken


def test_a_role_has_the_modules_of_its_name_or_of_another_entry() -> None:
    table = {"solver": [LoRASpec("a"), LoRASpec("b", 4, 8.0, fixed=True)], "wide": [LoRASpec("c")]}
    assert adapted("solver", Role(), table) == table["solver"]
    assert adapted("solver", Role(modules="wide"), table) == table["wide"]
    got = adapted("solver", Role(rank=64, alpha=1.0), table)
    assert got == [LoRASpec("a", 64, 1.0), LoRASpec("b", 4, 8.0, fixed=True)]
    assert adapted("solver", Role(rank=64), table)[0] == LoRASpec("a", 64, 32.0)
    assert adapted("solver", Role(alpha=3.0), table)[0] == LoRASpec("a", 16, 3.0)
    with pytest.raises(UserError, match="solver.modules is 'tall'; this backbone has: solver, wid"):
        adapted("solver", Role(modules="tall"), table)
    with pytest.raises(UserError, match="judge.modules is 'judge'"):
        adapted("judge", Role(), table)


def test_a_step_goes_downhill_and_is_averaged() -> None:
    improved = after(Optimizer(average_decay=0.75, weight_decay=0.0, kl=False))
    close(leaves(improved.state.adapter), 0.9)
    close(leaves(improved.state.average), 0.975)
    assert improved.state.evaluated is improved.state.average
    assert improved.taken and int(improved.skipped) == 0
    assert improved.metrics["own"] == improved.metrics["loss"] == 12
    assert improved.metrics["kl"] == pytest.approx(0.05)
    assert improved.metrics["gradient"] == pytest.approx(2 * np.sqrt(12))
    assert set(improved.metrics) == {"loss", "gradient", "kl", "kl_coefficient", "own", "own_max"}


def test_nothing_is_averaged_without_a_decay() -> None:
    state = after(Optimizer(average_decay=0.0)).state
    assert state.average is None and state.evaluated is state.adapter


def test_the_average_starts_as_a_copy() -> None:
    state = start(PAPER, ROLE, adapter())
    average: Any = state.average
    np.testing.assert_array_equal(leaves(average), leaves(state.adapter))
    assert average["m"].a is not state.adapter["m"].a  # both may be given away to a step


def test_a_moving_average_by_hand() -> None:
    close(moving_average({"x": jnp.array(1.0)}, {"x": jnp.array(5.0)}, 0.75)["x"], 2.0)


def test_the_rate_grows_over_the_warm_up() -> None:
    optimizer = Optimizer(warmup=4, weight_decay=0.0)
    state, values = start(optimizer, ROLE, adapter()), [1.0]
    run = jax.jit(lambda state: improve(optimizer, ROLE, state, bowl, examples(), KEY).state)
    for _ in range(5):
        state = run(state)
        values.append(leaves(state.adapter)[0])
    np.testing.assert_allclose(-np.diff(values), [0.025, 0.05, 0.075, 0.1, 0.1], rtol=0.05)


def test_weights_decay_with_the_rate() -> None:
    """By rate times decay of their size, beside the step of the gradient."""
    one, other = after(Optimizer(weight_decay=0.5)), after(PLAIN)
    close(leaves(other.state.adapter) - leaves(one.state.adapter), 0.1 * 0.5)


def test_the_gradient_is_clipped() -> None:
    """Adam hides a scale from the first step, but not from its memory."""
    wide, narrow = after(Optimizer(clip_norm=1e3)), after(Optimizer(clip_norm=1.0))
    size = lambda improved: np.linalg.norm(leaves(improved.state.optimizer[1][0].mu)) / 0.1
    assert size(narrow) == pytest.approx(1.0, rel=1e-4)
    assert size(wide) == pytest.approx(float(wide.metrics["gradient"]), rel=1e-4)
    square = (leaves(narrow.state.optimizer[1][0].mu) / 0.1) ** 2
    close(leaves(narrow.state.optimizer[1][0].nu), 0.001 * square, atol=0)  # 1 - 0.999 of it


@pytest.mark.parametrize(
    ("kwargs", "skipped"),
    [({"kept": False}, 0), ({"scale": jnp.nan}, 1), ({"scale": jnp.inf}, 1)],
)
def test_without_a_finite_loss_on_something_all_stays(kwargs, skipped: int) -> None:
    improved = after(**kwargs)
    assert_as_it_was(improved)
    assert int(improved.skipped) == skipped


def test_a_gradient_that_is_not_finite_is_no_step() -> None:
    def cusp(tree, part, beta):
        value = jnp.sqrt(jnp.abs(tree["m"].a - 1).sum())  # 0, with an infinite slope
        return Losses(value + 0 * part["drift"], part["kept"], part["drift"], {})

    state = start(PAPER, ROLE, adapter())
    improved = improve(PAPER, ROLE, state, cusp, examples(), KEY)
    assert jnp.isfinite(improved.metrics["loss"])
    assert_as_it_was(improved)
    assert int(improved.skipped) == 1


def test_a_gradient_too_large_for_its_norm_is_no_step() -> None:
    def cliff(tree, part, beta):
        value = 1e30 * (tree["m"].a - 1).sum()  # 0; the norm of its slope is not finite
        return Losses(value + 0 * part["drift"], part["kept"], part["drift"], {})

    improved = improve(PAPER, ROLE, start(PAPER, ROLE, adapter()), cliff, examples(), KEY)
    assert_as_it_was(improved)
    assert int(improved.skipped) == 1


def test_weights_that_would_not_be_finite_are_not_taken() -> None:
    """Loss and gradient are finite; the decayed weights are not."""
    optimizer, role = Optimizer(weight_decay=10.0), Role(learning_rate=1.0)
    flat = lambda tree, part, beta: Losses(
        0 * tree["m"].a[0, 0] + part["scale"], part["kept"], part["drift"], {}
    )
    state = start(optimizer, role, adapter(1e38))
    improved = improve(optimizer, role, state, flat, examples(), KEY)
    assert jnp.isfinite(improved.metrics["loss"]) and improved.metrics["gradient"] == 0
    assert_as_it_was(improved, optimizer, role, 1e38)
    assert int(improved.skipped) == 1


def test_a_rate_of_zero_freezes_a_role() -> None:
    frozen = Role(learning_rate=0.0)
    improved = after(role=frozen)
    assert_as_it_was(improved, role=frozen)
    assert improved.state.optimizer is None and improved.state.average is None
    assert improved.state.evaluated is improved.state.adapter
    assert improved.metrics["loss"] > 0 and int(improved.skipped) == 0


def test_the_kl_coefficient_follows_the_drift() -> None:
    role = replace(ROLE, kl_start=0.5, kl_target=0.1, kl_rate=0.2)
    for drift in (0.0, 0.3):
        state = after(role=role, drift=drift).state
        close(state.kl_coefficient, 0.5 * np.exp(0.2 * (drift - 0.1) / 0.1))
    assert start(PAPER, role, adapter()).kl_coefficient == 0.5


def test_the_penalty_can_be_switched_off() -> None:
    """The drift is measured all the same."""
    role = replace(ROLE, kl_start=0.5)
    on, off = after(role=role, drift=2.0), after(Optimizer(kl=False), role, drift=2.0)
    assert on.metrics["loss"] == pytest.approx(12 + 0.5 * 2)
    assert off.metrics["loss"] == 12 and off.metrics["kl"] == on.metrics["kl"] == 2
    assert on.metrics["kl_coefficient"] == 0.5  # of the step, not after it


def uneven(tree, part, beta) -> Losses:
    """A loss whose samples differ, and of which an uneven share counts."""
    values = ((part["x"] @ tree["m"].a @ tree["m"].b - part["y"]) ** 2).mean(-1)
    values = values + beta * values**2
    return Losses(values, part["kept"], values / 10, {"gap": part["y"][..., 0]})


@pytest.mark.parametrize("slices", [1, 2, 4])
def test_any_number_of_slices_gives_the_step_of_the_whole_batch(slices: int) -> None:
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    kept = jnp.array([[1, 1, 1], [0, 1, 0], [1, 0, 1], [0, 0, 0]], bool)
    part = {"x": normal(4, 3, 2), "y": normal(4, 3, 2), "kept": kept}
    # A loss of what does not count may be anything, and so may what was measured there.
    part["y"] = jnp.where(kept[..., None], part["y"], 1e10)
    factors = {"m": LoRA(normal(2, 3), normal(3, 2), 2.0)}
    state = start(PLAIN, ROLE, factors)
    run = jax.jit(lambda part: improve(PLAIN, ROLE, state, uneven, part, KEY, slices=slices))
    got = run(part)
    mean = lambda tree: uneven(tree, part, 0.01).values[kept].mean()
    value, slope = jax.value_and_grad(mean)(factors)
    close(got.metrics["loss"], value)
    close(got.metrics["gradient"], np.linalg.norm(leaves(slope)), rtol=1e-4)
    found = uneven(factors, part, 0.01)
    close(got.metrics["kl"], found.drift[kept].mean())
    close(got.metrics["gap"], part["y"][kept][:, 0].mean())
    clipped = leaves(slope) / max(1, np.linalg.norm(leaves(slope)))
    close(leaves(got.state.optimizer[1][0].mu), 0.1 * clipped, rtol=1e-3)


def test_the_largest_of_a_measure_is_of_what_counts() -> None:
    part = examples()
    part["scale"] = part["scale"].at[2, 0].set(3.0).at[1, 1].set(9.0)
    state = start(PAPER, ROLE, adapter())
    for slices in (1, 2):
        found = improve(PAPER, ROLE, state, bowl, part, KEY, slices=slices)
        assert found.metrics["own_max"] == 3


def test_dropout_is_that_of_the_key() -> None:
    state = start(PLAIN, ROLE, adapter())
    one = improve(PLAIN, ROLE, state, bowl, examples(), KEY, dropout=0.5)
    want = bowl(dropped(adapter(), KEY, 0.5), examples(), 0.01)
    close(one.metrics["loss"], want.values[0, 0])
    none = improve(PLAIN, ROLE, state, bowl, examples(), KEY)
    assert one.metrics["loss"] != none.metrics["loss"]


def test_metrics_bear_the_name_of_their_role() -> None:
    assert named({"loss": jnp.array(1.0)}, "solver") == {"loss/solver": 1}
