"""What BLIP3o's prompts add to Qwen's chat format, and drawings as the tower sees them."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PIL

from asg_jax.backbone import Processor, to_uint8
from asg_jax.models.blip3o.config import Blip3oConfig
from asg_jax.models.blip3o.processor import Blip3oProcessor
from asg_jax.models.tokenizers import ByteTokenizer


@pytest.fixture(scope="module")
def processor(blip3o):
    config = blip3o.backbone.config
    return Blip3oProcessor(config, ByteTokenizer(config.tokens.specials()))


def picture(width, height):
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return PIL.fromarray(values)


def real(prompt, n=0):
    return np.asarray(prompt.ids[n])[np.asarray(prompt.mask[n])].tolist()


def test_it_is_a_processor(processor):
    tokens = processor.config.tokens
    assert isinstance(processor, Processor)
    assert processor.stop_ids == (tokens.turn_end, tokens.pad)


def test_a_request_stands_before_the_caption(processor):
    tokens = processor.config.tokens
    prompts = processor.prompt([["a cat"], ["two dogs and a hat"]], "draw").prompts
    answered = processor.prompt([[f"{processor.config.request}a cat"]], "answer").prompts
    assert real(prompts.main) == [*real(answered.main), tokens.draw_start]
    for n in range(2):
        assert real(prompts.negative, n) == [*b" ", tokens.draw_start]


def test_pictures_to_draw_from_count_one_after_another(processor):
    """As in the official code, unlike those that are asked about."""
    turns = [[picture(64, 48), "again"]]
    drawn, asked = (processor.prompt(turns, purpose).prompts.main for purpose in ("draw", "answer"))
    positions = [np.asarray(p.positions[0])[np.asarray(p.mask[0])] for p in (drawn, asked)]
    plain = [(p == np.arange(len(p))[:, None]).all() for p in positions]
    assert plain == [True, False]


@pytest.mark.parametrize("size", [(64, 96), (60, 44)])
def test_a_view_is_what_is_read_from_a_file(processor, size):
    """To the last bit, where the picture must be resized, too."""
    pixels = np.random.default_rng(1).random((1, *size, 3), np.float32)
    file = io.BytesIO()
    PIL.fromarray(np.asarray(to_uint8(jnp.asarray(pixels)))[0]).save(file, "PNG")
    want, found = processor.image([PIL.open(file)]), jax.jit(processor.view)(pixels)
    count = int(np.prod(want.grid[0]))
    assert np.asarray(found.grid).tolist() == want.grid.tolist()
    np.testing.assert_allclose(found.patches[0], want.patches[0, :count], atol=1e-6)


def test_official_drawings_are_resized():
    """1024 is no multiple of 28; the nearest one is 1036."""
    config = Blip3oConfig()
    processor = Blip3oProcessor(config, ByteTokenizer(config.tokens.specials()))
    view = jax.eval_shape(processor.view, jax.ShapeDtypeStruct((2, 1024, 1024, 3), jnp.float32))
    assert view.patches.shape == (2, 74 * 74, 1176)
