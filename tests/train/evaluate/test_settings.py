"""Settings of an evaluation: what cannot be is refused in one sentence."""

from dataclasses import replace

import pytest

from asg_jax.errors import UserError
from asg_jax.train.evaluate.settings import EvalSettings


@pytest.mark.parametrize(
    "values, message",
    [
        ({"prompts": 0}, "config.eval.prompts is 0; it must be at least 1"),
        ({"seed": -1}, "config.eval.seed is -1; it must be at least 0"),
        ({"per_picture": 7}, "at most 6"),
        ({"questions": 10}, "multiple of config.eval.per_picture, which is 4"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, message) -> None:
    with pytest.raises(UserError, match=message):
        EvalSettings(**values)


def test_a_model_of_other_pictures_is_refused(model) -> None:
    spec = replace(model.backbone.spec, max_grid=(3, 3))
    with pytest.raises(UserError, match="cannot draw pictures of 32 x 32 pixels"):
        EvalSettings().sampler(spec)
    odd = replace(model.backbone.spec, grids=((2, 4), (4, 2)))
    with pytest.raises(UserError, match="cannot draw pictures of 32 x 32 pixels"):
        EvalSettings().sampler(odd)
    coarse = replace(model.backbone.spec, token_pixels=16)
    assert EvalSettings().sampler(coarse).grid == (2, 2)
