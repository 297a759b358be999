"""Predicted and measured changes on the toy and on the tiny model that draws bits."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.engine.dynamics import generation_change, understanding_changes
from asg_jax.objectives.painter import DrawingLesson, Painter
from asg_jax.signals.likelihood import bayes_weights
from asg_jax.train.evaluate.dynamics import changes_figure
from tests.methods.relatives import make
from tests.tiny import bits, examples

BITS = 6


def lessons(method, prompts) -> list[DrawingLesson]:
    """Drawings of single prompts, of random bits."""
    engine, few = method.engine, examples(method, ids=(5,))
    rng, found = np.random.default_rng(0), []
    order = engine.order([prompts[0]], few, 0)
    drawn = engine.draw(method.frozen_params, method.settings.sampler, 1, order)
    for prompt in prompts:
        order = engine.order([prompt], few, 0)
        own = jnp.asarray(rng.integers(0, 2, drawn.values.shape), drawn.values.dtype)
        everything = jnp.ones((1, 1))
        found.append(
            DrawingLesson(
                order.request,
                replace(drawn, values=own),
                everything,
                everything > 0,
                jax.random.split(jax.random.key(0), 1),
            )
        )
    return found


@bits
@pytest.mark.slow
def test_the_kernel_predicts_what_a_step_does(model) -> None:
    method = make(model, "gvu")
    method.frozen_params = method.engine.params(method.init(0), None)
    adapter = method.init(0).roles["generator"].adapter
    painter = Painter(model.backbone, method.settings.sampler, model.base)
    prompts = ["a red circle", "two green crosses"]
    run = jax.jit(partial(generation_change, painter, bits=BITS, rate=2e-4))
    of_prompts = lessons(method, prompts)
    found = [[run(adapter, a, b) for b in of_prompts] for a in of_prompts]
    predicted, measured = np.array([[tuple(c) for c in row] for row in found]).transpose(2, 0, 1)
    np.testing.assert_allclose(predicted, measured, rtol=0.1, atol=1e-5)
    assert (np.diag(predicted) > 0).all()  # a step on a drawing makes that drawing likelier
    figure = changes_figure({"all": (predicted.ravel(), measured.ravel())})
    assert len(figure.axes) == 1


def test_understanding_changes_sum_to_nothing_under_its_own_weights() -> None:
    likelihoods, changes = jnp.array([-3.0, -1.0, -2.0]), jnp.array([0.01, -0.02, 0.03])
    found = understanding_changes(changes, likelihoods)
    np.testing.assert_allclose((found * bayes_weights(likelihoods)).sum(), 0, atol=1e-7)
