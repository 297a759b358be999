"""Conversations and pictures to arrays: prompts by purpose, batches, generated text and images."""

import io
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PIL

from asg_jax.backbone import Processor, encode, to_uint8
from asg_jax.models.bagel.config import Resize
from asg_jax.models.bagel.processor import resized

BOS, EOS, START, END = 256, 257, 258, 259
RULES = [
    Resize(980, 224, 14),
    Resize(1024, 512, 16),
    Resize(980, 378, 14, 2_007_040),
    Resize(518, 224, 14),
    Resize(112, 28, 14, 5_000),
]


def picture(width, height, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return PIL.fromarray(values)


def turn(text):
    return [BOS, *text.encode(), EOS]


def shown(prompt, n=0):
    """Ids of the real rows of one conversation; rows of a picture are its slots, as strings."""
    mask = np.asarray(prompt.mask[n])
    rows = zip(np.asarray(prompt.ids[n])[mask], np.asarray(prompt.slot[n])[mask], strict=True)
    return [int(token) if slot < 0 else f"row {slot}" for token, slot in rows]


def rows(start, count):
    return [f"row {n}" for n in range(start, start + count)]


def test_it_is_a_processor(bagel):
    assert isinstance(bagel.processor, Processor)
    assert bagel.processor.stop_ids == (EOS,)


def test_an_answer_begins_a_turn(bagel):
    """Every turn is framed alike, whoever speaks; the picture keeps its place."""
    turns = [["be brief", picture(28, 42), "what is it?"]]
    prompts = bagel.processor.prompt(turns, "answer").prompts
    expected = [*turn("be brief"), START, *rows(0, 6), END, *turn("what is it?"), BOS]
    assert shown(prompts.main) == expected
    assert prompts.no_text is None and prompts.no_image is None
    positions = prompts.main.positions[0, : len(expected), 0].tolist()
    assert positions == [*range(10), *[10] * 8, *range(11, 11 + 14)]


def test_every_view_reads_its_own_rows(bagel):
    """Second pictures come after all first ones; the rows of an absent one are masked."""
    turns = [[picture(42, 42), "left", picture(28, 28), "right"], [picture(28, 42), "only"]]
    request = bagel.processor.prompt(turns, "embed")
    first, second = [START, *rows(0, 9), END], [START, *rows(12, 4), END]
    assert shown(request.prompts.main, 0) == [*first, *turn("left"), *second, *turn("right")]
    assert shown(request.prompts.main, 1) == [START, *rows(0, 6), END, *turn("only")]
    assert [image.mask.sum(1).tolist() for image in request.images] == [[9, 6], [4, 0]]


def test_embedded_turns_end_as_they_are(bagel):
    request = bagel.processor.prompt([["a cat"], [picture(28, 28)]], "embed")
    assert shown(request.prompts.main, 0) == turn("a cat")
    assert shown(request.prompts.main, 1) == [START, *rows(0, 4), END]


def test_an_edit_holds_latents_and_a_view_of_the_picture(bagel):
    """The view comes second; the features are those of the view (padded to 8), then the latents."""
    turns = [["plan", picture(32, 32), "make it red"]]
    request = bagel.processor.prompt(turns, "draw")
    main, no_text, no_image = (
        getattr(request.prompts, name) for name in ("main", "no_text", "no_image")
    )
    before, latents = [*turn("plan"), START, END, START, *rows(0, 4), END], rows(8, 4)
    assert shown(main) == [*before, *turn("make it red"), *latents]
    assert shown(no_text) == [*before, *latents]
    assert shown(no_image) == [*turn("plan"), *turn("make it red")]
    assert [p.latents for p in (main, no_text, no_image)] == [4, 4, 0]
    assert request.sources.shape == (1, 32, 32, 3)


def test_drawing_from_text_has_one_context(bagel):
    """The empty one needs no rows; a system text is what remains without the last text."""
    prompts = bagel.processor.prompt([["a kite"]], "draw").prompts
    assert shown(prompts.main) == turn("a kite")
    assert prompts.no_text is None and prompts.no_image is None
    prompts = bagel.processor.prompt([["plan", "a kite"], ["a"]], "draw").prompts
    assert shown(prompts.no_text, 0) == turn("plan")
    assert shown(prompts.no_text, 1) == []


def test_a_batch_has_the_states_of_each_conversation_alone(bagel):
    """Whatever the lengths of the texts, the sizes of the pictures and their number."""
    turns = [
        [picture(84, 56, 1), picture(28, 28, 2), "which is larger?"],
        ["see", picture(42, 56, 3), "what colour is the ball in the picture?"],
    ]

    @jax.jit
    def run(params, request):
        main = encode(bagel.backbone, params, request).main
        return bagel.backbone.states(params, main), main.mask

    states = partial(run, bagel.params)
    together, masks = states(bagel.processor.prompt(turns, "answer"))
    for n, alone in enumerate(turns):
        hidden, mask = states(bagel.processor.prompt([alone], "answer"))
        np.testing.assert_allclose(together[n][masks[n]], hidden[0][mask[0]], atol=5e-5)


def test_a_batch_of_edits_has_the_rows_of_each_alone(bagel):
    turns = [
        ["plan", picture(32, 48, 1), "red"],
        [picture(32, 48, 2), "a much longer instruction than the other"],
    ]
    together = bagel.processor.prompt(turns, "draw")
    for n, alone in enumerate(turns):
        request = bagel.processor.prompt([alone], "draw")
        np.testing.assert_array_equal(together.sources[n], request.sources[0])
        for name in ("main", "no_text", "no_image"):
            ours, expected = getattr(together.prompts, name), getattr(request.prompts, name)
            for field in ("ids", "slot", "positions", "order"):
                real = [getattr(p, field)[k][p.mask[k]] for p, k in ((ours, n), (expected, 0))]
                np.testing.assert_array_equal(*real)


@pytest.mark.parametrize(
    "turns",
    [
        [[picture(32, 32), picture(32, 32), "both"]],
        [[picture(32, 32), "one"], ["none"]],
        [[picture(32, 32), "one"], [picture(32, 64), "another size"]],
    ],
)
def test_edits_that_do_not_fit_one_batch_are_refused(bagel, turns):
    with pytest.raises(ValueError, match="one picture in each conversation, all of one size"):
        bagel.processor.prompt(turns, "draw")


def test_edits_may_differ_in_size_before_resizing(bagel):
    """Both become 128 x 64."""
    turns = [[picture(256, 128), "one"], [picture(512, 256), "two"]]
    assert bagel.processor.prompt(turns, "draw").sources.shape == (2, 64, 128, 3)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([*b"yes", EOS, *b"and more"], "yes"),
        ([BOS, *b"yes", EOS, EOS], "yes"),
        ([*b"one", BOS, *b"two", BOS, *b"three"], "three"),
        ([*b"one", BOS, *b"two", EOS, BOS, *b"three"], "two"),
        ([EOS, *b"late"], ""),
        ([], ""),
        ([*b"tw", EOS + 1, *b"o", EOS + 2], "two"),  # markers of pictures
        (b"no marker", "no marker"),
    ],
)
def test_a_text_stands_between_the_last_start_and_the_first_stop(bagel, ids, text):
    assert bagel.processor.text(ids) == text


def test_a_view_is_what_saving_and_loading_would_show(bagel):
    """Every 8-bit value, values in between, and what lies outside of [0, 1]."""
    values = np.arange(56 * 84 * 3, dtype=np.float32).reshape(56, 84, 3)
    exact, fine = values % 256 / 255, np.sin(values) * 0.6 + 0.5
    pixels = jnp.asarray(np.stack([exact, fine]), jnp.float32)
    loaded = []
    for levels in np.asarray(to_uint8(pixels)):
        file = io.BytesIO()
        PIL.fromarray(levels).save(file, "PNG")
        loaded.append(PIL.open(file))
    image = bagel.processor.image(loaded)
    for view in (bagel.processor.view(pixels), jax.jit(bagel.processor.view)(pixels)):
        count = view.patches.shape[1]
        np.testing.assert_array_equal(view.grid, image.grid)
        np.testing.assert_array_equal(np.asarray(view.mask).sum(1), image.mask.sum(1))
        np.testing.assert_allclose(view.patches, image.patches[:, :count], atol=1e-6)


def test_pictures_of_one_image_are_padded_to_a_bucket(bagel):
    image = bagel.processor.image([picture(28, 42), picture(70, 28)])
    assert image.grid.tolist() == [[3, 2], [2, 5]]
    assert image.patches.shape == (2, 12, 14 * 14 * 3)
    assert image.mask.sum(1).tolist() == [6, 10]
    assert not image.patches[~image.mask].any()


SIDES = st.integers(1, 20_000)


@given(SIDES, SIDES, st.sampled_from(RULES), st.integers(1, 4))
def test_resized_sides_are_multiples_of_the_stride_within_the_bound(width, height, rule, pictures):
    size = resized(width, height, rule, pictures)
    assert all(side % rule.stride == 0 and rule.stride <= side <= rule.max_size for side in size)
    assert resized(height, width, rule, pictures) == size[::-1]


@given(st.data(), st.sampled_from(RULES))
def test_a_picture_that_fits_keeps_its_size(data, rule):
    low, high = -(-rule.min_size // rule.stride), rule.max_size // rule.stride
    width, height = data.draw(st.tuples(*[st.integers(low, high)] * 2))
    size = width * rule.stride, height * rule.stride
    fits = size[0] * size[1] <= rule.max_pixels
    assert (resized(*size, rule) == size) == fits
