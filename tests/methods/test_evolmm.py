"""EvoLMM on tiny random models."""

import jax.numpy as jnp
import numpy as np

from asg_jax.engine.roles import TextRole
from asg_jax.methods import settings_for
from asg_jax.signals.vote import gaussian
from tests.methods.relatives import make, moved, run
from tests.tiny import bits_slowly


@bits_slowly
def test_the_solver_learns_at_every_step_and_the_proposer_when_it_is_due(model) -> None:
    method = make(model, "evolmm")
    first, middle, (report,) = run(method, 1)
    assert moved(first, middle) == {"solver"}
    assert report.metrics["gradient/solver"] > 0
    assert report.rows[0]["said"].endswith("?") and report.rows[0]["answers"].count(",") == 2
    first, last, reports = run(method, 2)  # the second one is due
    assert moved(first, last) == {"proposer", "solver"}
    assert reports[1].metrics["reward/solver"] > 0


def test_a_models_own_settings_do_not_loosen_how_drift_is_held() -> None:
    """The numbers are the official code's."""
    loose = TextRole(3e-4, rank=32, kl_start=0.4, kl_target=0.5, kl_rate=0.001)
    settings = settings_for("evolmm", {"solver": loose})
    assert (settings.solver.learning_rate, settings.solver.rank) == (3e-4, 32)
    for role in (settings.solver, settings.proposer):
        held = role.kl_start, role.kl_target, role.kl_rate, role.kl_least
        assert held == (1e-3, 0.02, 0.1, 1e-8)


def test_seven_entropies_of_five_answers_earn_what_they_should() -> None:
    entropies = jnp.array([0, 0.500, 0.673, 0.950, 1.055, 1.332, 1.609])
    want = [0.037, 0.521, 0.810, 0.990, 0.907, 0.467, 0.128]
    np.testing.assert_allclose(gaussian(entropies, 0.9, 0.35), want, atol=2e-3)
