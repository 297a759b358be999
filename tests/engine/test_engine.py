"""The engine on tiny random models: what is seen of drawings, and in which slices."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow

from asg_jax.backbone import Params, encode, to_uint8
from asg_jax.engine.engine import names
from asg_jax.engine.programs import (
    Comparison,
    Likeness,
    Replies,
    Viewing,
    ask_about,
    compare,
    keys,
    view,
)
from asg_jax.methods.asg import Asg
from tests.tiny import bits_slowly, moment

EVERYTHING = names(Replies) | names(Likeness)


@pytest.fixture(scope="module")
def batches(asg: Asg) -> dict[str, Any]:
    """What the programs of a generation step are called with."""
    seen: dict[str, Any] = {}
    engine, run = asg.engine, type(asg.engine)._run

    def spy(engine, function, *static, batch=None):
        seen[function.__name__] = batch
        return run(engine, function, *static, batch=batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(engine), "_run", spy)
        asg.loops["generation"].gather(asg.init(0), moment(asg))
    return seen


@pytest.fixture(scope="module")
def comparison(batches: dict[str, Any]) -> Comparison:
    return batches["compare"]


@bits_slowly
def test_an_inquiry_is_answered_by_whoever_is_asked(asg: Asg, batches) -> None:
    """Whether the reference answers are scored changes no other reply."""
    model, still = asg.engine.model, asg.init(0).roles["solver"].adapter
    moved = jax.tree.map(lambda x: x + 0.1, still)
    look = lambda scored: jax.jit(
        partial(ask_about, model.backbone, model.processor, asg.settings.lengths, scored)
    )
    scored = look(frozenset({"answers", "captions", "probability"}))
    plain = look(frozenset({"answers", "captions"}))
    replies = [scored(Params(model.base, a), batches["ask_about"]) for a in (None, still, moved)]
    assert jax.tree.all(jax.tree.map(np.array_equal, replies[0], replies[1]))
    assert np.any(replies[0].probability != replies[2].probability)
    bare = plain(Params(model.base), batches["ask_about"])
    assert bare.probability is None
    np.testing.assert_array_equal(bare.answers.ids, replies[0].answers.ids)
    np.testing.assert_array_equal(bare.captions.ids, replies[0].captions.ids)


def test_checks_and_recaptions_have_temperatures_of_their_own(asg: Asg, batches) -> None:
    inquiry, temperatures = batches["ask_about"], asg.settings.temperatures
    assert np.all(np.asarray(inquiry.temperature) == temperatures.check)
    assert np.all(np.asarray(inquiry.caption_temperature) == temperatures.recaption)
    assert temperatures.check != temperatures.recaption


def test_pictures_are_encoded_once_for_roles_that_share_the_tower(asg: Asg) -> None:
    shown, state = moment(asg), asg.init(0)
    assert asg.engine.seen(asg.engine.params(state, "solver"), shown) is shown.request
    assert shown.request.images == () and shown.pictures.images
    model = asg.engine.model
    want = jax.jit(partial(encode, model.backbone))(Params(model.base), shown.pictures).main
    got: Any = shown.request.prompts.main.features
    np.testing.assert_allclose(got, want.features, atol=1e-6)
    adapter: Any = {"vision.blocks.q_proj": None}
    assert asg.engine.seen(Params(model.base, adapter), shown) is shown.pictures


@bits_slowly
def test_slices_change_no_result(asg: Asg, batches) -> None:
    """Drawings, questions about them and comparisons, one prompt at a time."""
    engine, params = asg.engine, Params(asg.engine.model.base)
    narrow = replace(engine, micro=1, _compiled={})
    assert (engine.slices(batches["draw"]), narrow.slices(batches["draw"])) == (1, 3)
    close = partial(np.testing.assert_allclose, atol=2e-4)
    for run in (
        lambda e: e.draw(params, asg.settings.sampler, 3, batches["draw"]).pixels,
        lambda e: e.ask_about(params, EVERYTHING, batches["ask_about"]),
        lambda e: e.compare(params, EVERYTHING, batches["compare"]),
    ):
        jax.tree.map(close, run(engine), run(narrow))


@bits_slowly
def test_what_is_compared_changes_with_the_drawing(asg: Asg, comparison) -> None:
    model = asg.engine.model
    program = jax.jit(partial(compare, model.backbone, model.processor, EVERYTHING))
    pixels = comparison.viewing.pixels
    other = pixels.at[0, 1].set(1 - pixels[0, 1])
    changed = replace(comparison, viewing=replace(comparison.viewing, pixels=other))
    before, after = (program(Params(model.base), batch) for batch in (comparison, changed))
    np.testing.assert_array_equal(before.captions, after.captions)
    np.testing.assert_array_equal(before.prompts, after.prompts)
    for name in ("likelihood", "pictures", "features"):
        old, new = np.asarray(getattr(before, name)), np.asarray(getattr(after, name))
        assert np.any(old[0, 1] != new[0, 1]), name
        np.testing.assert_array_equal(old[1:], new[1:], err_msg=name)
    np.testing.assert_allclose(jnp.linalg.norm(after.features, axis=-1), 1, rtol=1e-5)


@bits_slowly
def test_what_nobody_needs_is_not_computed(asg: Asg, comparison: Comparison) -> None:
    found = asg.engine.compare(Params(asg.engine.model.base), frozenset({"likelihood"}), comparison)
    assert found.likelihood is not None
    assert found.pictures is found.prompts is found.captions is found.features is None


@bits_slowly
def test_a_caption_that_is_the_prompt_is_embedded_as_the_prompt(asg: Asg, comparison) -> None:
    twice = lambda x: np.repeat(np.asarray(x)[:, None], 3, axis=1)
    again = jax.tree.map(twice, comparison.prompts)
    batch = replace(comparison, captions=again)
    found = asg.engine.compare(Params(asg.engine.model.base), frozenset({"captions"}), batch)
    assert found.captions is not None and found.prompts is not None
    cosine = (found.captions * found.prompts[:, None]).sum(-1)
    np.testing.assert_allclose(cosine, 1, rtol=1e-5)


def test_a_drawing_is_seen_as_its_file_would_be(asg: Asg) -> None:
    model, scribe = asg.engine.model, asg.engine.scribe
    pixels = jax.random.uniform(jax.random.key(0), (1, 2, 32, 32, 3))
    frame = scribe.frame(32, 32, 1)
    prompt = jax.jit(partial(view, model.backbone, model.processor))(
        Params(model.base), Viewing(pixels, frame)
    )
    saved = [Pillow.fromarray(picture) for picture in np.asarray(to_uint8(pixels[0]))]
    request = scribe.pictures(saved)
    want = jax.jit(partial(encode, model.backbone))(Params(model.base), request).main
    for name in ("ids", "slot", "positions", "order", "mask"):
        np.testing.assert_array_equal(getattr(prompt, name), getattr(want, name))
    np.testing.assert_allclose(prompt.features, want.features, atol=1e-5)


def test_keys_belong_to_an_example_wherever_it_stands() -> None:
    stream = jnp.array([[0, 1, 5, 2], [0, 1, 6, 2], [0, 1, 5, 3]], jnp.uint32)
    data = jax.random.key_data(keys(stream, 2))
    swapped = jax.random.key_data(keys(stream[::-1], 2))
    assert len(np.unique(data.reshape(-1, data.shape[-1]), axis=0)) == 6
    np.testing.assert_array_equal(data, swapped[::-1])
