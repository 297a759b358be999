"""What matrices in 8 bits cost the models that come with the package."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from asg_jax.backbone import Params, encode, host
from asg_jax.models.layers.backbone import in_int8
from asg_jax.models.registry import open_model
from asg_jax.ops.int8 import Int8
from asg_jax.rollout.text import Texts, score
from asg_jax.train.data.scenes import example

PICTURES = 4
TEXTS = ("what color is the square?", "how many circles are there?")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bagel-tiny", "vargpt-tiny"])
def test_log_probs_move_by_hundredths_of_a_nat(name):
    """About .02 and .01 on average were measured."""
    model = open_model(name)
    pictures = [Image.fromarray(example(0, n, 1)[1]) for n in range(PICTURES)]
    request = model.processor.prompt([[picture] for picture in pictures], "ask")
    rows = [model.processor.ids(text) for text in TEXTS]
    shape = (PICTURES, len(rows), max(map(len, rows)))
    ids, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
    for g, row in enumerate(rows):
        ids[:, g, : len(row)], mask[:, g, : len(row)] = row, True
    nothing = Texts(jnp.zeros((*shape[:2], 0), jnp.int32), jnp.zeros((*shape[:2], 0), bool))

    @jax.jit
    def log_probs(base, request, ids, mask):
        prompt = encode(model.backbone, Params(base), request).main
        after = Texts(ids, mask)
        return score(model.backbone, Params(base), prompt, nothing, after).plain_log_prob

    batch = request, host(ids), host(mask)
    whole = log_probs(model.base, *batch)
    base = in_int8(jax.tree.map(jnp.array, model.base))
    assert any(isinstance(leaf, Int8) for leaf in jax.tree.leaves(base, is_leaf=_is_int8))
    assert np.abs(log_probs(base, *batch) - whole)[mask].mean() < 0.03


def _is_int8(leaf):
    return isinstance(leaf, Int8)
