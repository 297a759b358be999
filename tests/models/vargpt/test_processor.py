"""Conversations and pictures to arrays: chat format, indexes of pictures, generated pictures."""

import io
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PIL

from asg_jax.backbone import Processor, encode, to_uint8
from asg_jax.errors import UserError
from asg_jax.models.layers.qwen.config import Pixels
from asg_jax.models.layers.qwen.pictures import resized
from asg_jax.models.tokenizers import ByteTokenizer
from asg_jax.models.vargpt.processor import VargptProcessor

START, END, SEE, SEEN, PICTURE, DRAW = 257, 258, 259, 260, 262, 264


@pytest.fixture(scope="module")
def processor(vargpt):
    config = vargpt.backbone.config
    return VargptProcessor(config, ByteTokenizer(config.tokens.specials()))


def picture(width, height, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return PIL.fromarray(values)


OPENING = [
    *[START, *b"system\nYou are a helpful assistant.", END, *b"\n"],
    *[START, *b"user\n"],
]
CLOSING = [END, *b"\n", START, *b"assistant\n"]


def shown(prompt, n=0):
    """Ids of the real rows of one conversation; rows of a picture are its slots, as strings."""
    mask = np.asarray(prompt.mask[n])
    rows = zip(np.asarray(prompt.ids[n])[mask], np.asarray(prompt.slot[n])[mask], strict=True)
    return [int(token) if slot < 0 else f"row {slot}" for token, slot in rows]


def rows(start, count):
    return [f"row {n}" for n in range(start, start + count)]


def test_it_is_a_processor(processor):
    assert isinstance(processor, Processor)
    assert processor.stop_ids == (END, 256)


def test_a_conversation_is_one_user_message(processor):
    turns = [["see", picture(56, 84), "what is it?"]]
    prompt = processor.prompt(turns, "answer").prompts.main
    message = [*b"see", SEE, *rows(0, 6), SEEN, *b"what is it?"]
    assert shown(prompt) == [*OPENING, *message, *CLOSING]
    first = len(OPENING) + 4
    index = prompt.positions[0, first : first + 7]
    expected = [(first, first + n // 2, first + n % 2) for n in range(6)]
    assert index[:6].tolist() == [list(e) for e in expected]
    assert index[6].tolist() == [first + 3] * 3  # after the largest index of the picture


def test_questions_follow_a_prompt_made_to_ask(processor):
    """Together they are what the model is to answer."""
    asked = processor.prompt([[picture(56, 56)]], "ask").prompts.main
    whole = processor.prompt([[picture(56, 56), "what?"]], "answer").prompts.main
    assert shown(asked) + processor.question("what?") == shown(whole)


def test_a_request_to_draw_ends_in_the_start_of_a_picture(processor):
    prompt = processor.prompt([["a kite"], [], [""]], "draw").prompts.main
    assert shown(prompt, 0) == [*OPENING, *b"a kite", *CLOSING, DRAW]
    assert shown(prompt, 1) == []
    assert shown(prompt, 2) == [*OPENING, *CLOSING, DRAW]


def test_embedded_turns_stand_between_markers(processor):
    request = processor.prompt([["a cat"], [picture(56, 56)]], "embed")
    assert shown(request.prompts.main, 0) == [START, *b"a cat", END]
    assert shown(request.prompts.main, 1) == [START, SEE, *rows(0, 4), SEEN, END]


def test_every_view_reads_its_own_rows(processor):
    """Second pictures come after all first ones; the rows of an absent one are masked."""
    turns = [[picture(84, 56), "left", picture(56, 56), "right"], [picture(56, 84), "only"]]
    request = processor.prompt(turns, "embed")
    first, second = [SEE, *rows(0, 6), SEEN], [SEE, *rows(6, 4), SEEN]
    assert [image.mask.sum(1).tolist() for image in request.images] == [[24, 24], [16, 0]]
    assert shown(request.prompts.main, 0) == [START, *first, *b"left", *second, *b"right", END]
    assert shown(request.prompts.main, 1) == [START, *first, *b"only", END]


def test_a_batch_has_the_states_of_each_conversation_alone(vargpt, processor):
    turns = [
        [picture(84, 56, 1), picture(56, 56, 2), "which is larger?"],
        ["see", picture(56, 84, 3), "what colour is the ball in the picture?"],
    ]

    @jax.jit
    def run(params, request):
        main = encode(vargpt.backbone, params, request).main
        return vargpt.backbone.states(params, main), main.mask

    states = partial(run, vargpt.params)
    together, masks = states(processor.prompt(turns, "answer"))
    for n, alone in enumerate(turns):
        hidden, mask = states(processor.prompt([alone], "answer"))
        np.testing.assert_allclose(together[n][masks[n]], hidden[0][mask[0]], atol=1e-4)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([*b"yes", END, *b"and more"], "yes"),
        ([*b"yes", 256, *b"and more"], "yes"),
        ([START, *b"yes", END, END], "yes"),
        ([*b"one", START, *b"two"], "two"),
        ([*b"a ", DRAW, *b"b"], "a b"),
        ([END, *b"late"], ""),
        ([], ""),
        (b"no marker", "no marker"),
    ],
)
def test_a_text_stands_before_the_first_stop_without_markers(processor, ids, text):
    assert processor.text(ids) == text


@pytest.mark.parametrize(("height", "width"), [(56, 84), (64, 70), (33, 140)])
def test_a_view_is_what_saving_and_loading_would_show(processor, height, width):
    """Pillow's own rounding aside: exactly, or at most one level on few values."""
    values = np.arange(height * width * 3, dtype=np.float32).reshape(1, height, width, 3)
    pixels = jnp.asarray(np.sin(values / 40) * 0.6 + 0.5)
    file = io.BytesIO()
    PIL.fromarray(np.asarray(to_uint8(pixels))[0]).save(file, "PNG")
    image = processor.image([PIL.open(file)])
    view = jax.jit(processor.view)(pixels)
    np.testing.assert_array_equal(view.grid, image.grid)
    count = view.patches.shape[1]
    error = np.abs(view.patches - image.patches[:, :count]) * 0.27 * 255
    assert error.max() < 1.1 and np.mean(error > 0.5) < 0.01
    if height % 28 == 0 and width % 28 == 0:
        assert error.max() < 1e-3


def test_pictures_of_one_image_are_padded_to_a_bucket(processor):
    image = processor.image([picture(56, 84), picture(112, 56)])
    assert image.grid.tolist() == [[6, 4], [4, 8]]
    assert image.patches.shape == (2, 32, 2 * 14 * 14 * 3)
    assert image.mask.sum(1).tolist() == [24, 32]
    assert not image.patches[~image.mask].any()


SIDES = st.integers(28, 3000)


@given(SIDES, SIDES)
def test_resized_sides_are_multiples_within_the_bounds(height, width):
    bounds = Pixels()
    if max(height, width) > 200 * min(height, width):
        return
    size = resized(height, width, 28, bounds)
    assert all(side % 28 == 0 and side > 0 for side in size)
    assert bounds.least <= math.prod(size) <= bounds.most
    assert resized(width, height, 28, bounds) == size[::-1]


@pytest.mark.parametrize("size", [(27, 100), (30, 6001)])
def test_tiny_and_narrow_pictures_are_refused(size):
    with pytest.raises(UserError, match="too small or too narrow"):
        resized(size[0], size[1], 28, Pixels())
