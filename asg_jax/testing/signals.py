"""Checks that any signal must pass, on invented records."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.signals.table import Asked, Drawn, Numbers, Signal
from asg_jax.signals.verdicts import YesNo
from asg_jax.signals.vote import vote

Kind = Literal["questions", "drawings"]
B, SAMPLES, M, N, D = 3, 4, 5, 7, 6
ALONE = ("asked", "prompts")  # fields of `Drawn` without an axis of samples
CLOSE = 1e-4, 1e-5  # relative, absolute


def record(of: Kind, seed: int = 0) -> Asked | Drawn:
    """What B examples of four samples each might have said or shown."""
    rng = np.random.default_rng(seed)
    share = lambda *shape: jnp.asarray(rng.uniform(size=shape), jnp.float32)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    if of == "questions":
        labels = jnp.asarray(rng.integers(0, 4, (B, SAMPLES, N)), jnp.int32)
        answered = jnp.asarray(rng.uniform(size=(B, SAMPLES)) < 0.8)
        return Asked(
            vote(labels, jnp.ones((B, SAMPLES, 1), bool)),
            share(B, SAMPLES),
            jnp.float32(0.6),
            answered,
        )
    match = share(B, SAMPLES, M).round()
    return Drawn(
        asked=jnp.arange(M) < jnp.array([5, 3, 1])[:, None],
        exists=jnp.asarray(np.arange(SAMPLES) < np.array([4, 4, 3])[:, None]),
        match=match,
        fraction=0.5 + 0.5 * share(B, SAMPLES, M),
        contradiction=1 - match,
        probability=share(B, SAMPLES, M),
        prompts=normal(B, D),
        captions=normal(B, SAMPLES, D),
        pictures=normal(B, SAMPLES, D),
        likelihood=-share(B, SAMPLES),
        features=normal(B, SAMPLES, D),
        verdict=YesNo(share(B, SAMPLES), share(B, SAMPLES)),
        answers=YesNo(share(B, SAMPLES, M), share(B, SAMPLES, M)),
    )


def check_signal(
    signal: Signal,
    of: Kind = "drawings",
    numbers: Numbers | None = None,
) -> None:
    """Checks that a signal is a number for every sample that depends on its own example alone.

    It must be finite, the same under jit, move with the samples when they change places, and not
    look at other examples. Where a drawing does not exist it may be anything.

    Args:
      signal: what is checked.
      of: what it reads.
      numbers: thresholds; the defaults without them.

    Raises:
      AssertionError: says what is wrong.
    """
    numbers, shown = numbers or Numbers(), record(of)
    read = lambda own: np.asarray(signal.read(own, numbers))
    found = read(shown)
    there = np.asarray(shown.exists) if isinstance(shown, Drawn) else np.ones((B, SAMPLES), bool)
    assert found.shape == (B, SAMPLES), f"it has shape {found.shape}, not (examples, samples)"
    assert np.isfinite(found[there]).all(), "it is not finite"
    compiled = np.asarray(jax.jit(lambda own: signal.read(own, numbers))(shown))
    _same(compiled[there], found[there], "jit changes it")
    order = np.array([2, 0, 1])  # of samples that all exist
    order = np.concatenate([order, np.arange(3, SAMPLES)])
    _same(read(_moved(shown, order))[:2], found[:2, order], "it does not move with its sample")
    _same(read(_first_of(shown, record(of, 1)))[0], found[0], "it looks at other examples")


def _same(one: np.ndarray, other: np.ndarray, fault: str) -> None:
    np.testing.assert_allclose(one, other, *CLOSE, err_msg=fault)


def _moved(shown: Asked | Drawn, order: np.ndarray) -> Any:
    """The samples in another order."""
    fixed = ALONE if isinstance(shown, Drawn) else ("target",)
    move = lambda tree: jax.tree.map(lambda x: x[:, order], tree)
    values = {f.name: getattr(shown, f.name) for f in fields(shown)}
    return type(shown)(**{k: v if k in fixed else move(v) for k, v in values.items()})


def _first_of(shown: Asked | Drawn, other: Asked | Drawn) -> Any:
    """The first example among others."""
    mix = lambda x, y: x if jnp.ndim(x) == 0 else jnp.concatenate([x[:1], y[1:]])
    return jax.tree.map(mix, shown, other)
