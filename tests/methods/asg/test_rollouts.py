"""What the Solver and the frozen model see of drawings."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow

from asg_jax.backbone import Params, encode, to_uint8
from asg_jax.methods.asg import Asg
from asg_jax.methods.asg.kit import Rollout
from asg_jax.methods.asg.rollouts import Comparison, Viewing, compare, examine, keys, view
from tests.methods.conftest import pictures


@pytest.fixture(scope="module")
def batches(asg: Asg) -> dict[str, Any]:
    """What the programs of a generation step are called with."""
    state, programs = asg.init(0), asg.kit.programs
    seen: dict[str, Any] = {}

    def spy(name: str, program: Rollout, params: Params, batch: Any) -> Any:
        seen[name] = batch
        return program(params, batch)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("examine", "compare"):
            patch.setitem(programs, name, partial(spy, name, programs[name]))
        asg.loops["generation"].gather(state, asg.moment(state, pictures(), [1, 2, 3]))
    return seen


@pytest.fixture(scope="module")
def comparison(batches: dict[str, Any]) -> Comparison:
    return batches["compare"]


def test_a_frozen_judge_answers_and_describes_without_the_solver(asg: Asg, batches) -> None:
    kit, still = asg.kit, asg.init(0).roles["solver"].adapter
    look = jax.jit(partial(examine, kit.backbone, kit.processor, 3, 3, "frozen"))
    moved = jax.tree.map(lambda x: x + 0.1, still)
    before, after = (look(Params(kit.base, a), batches["examine"]) for a in (still, moved))
    for name in ("answers", "captions", "frozen"):
        jax.tree.map(np.testing.assert_array_equal, getattr(before, name), getattr(after, name))
    assert np.any(before.live != after.live)


@pytest.mark.parametrize("likelihood", [True, False])
def test_the_cycle_changes_with_the_drawing(asg: Asg, comparison, likelihood: bool) -> None:
    kit = asg.kit
    program = jax.jit(partial(compare, kit.backbone, kit.processor, likelihood))
    pixels = comparison.viewing.pixels
    other = pixels.at[0, 1].set(1 - pixels[0, 1])
    changed = replace(comparison, viewing=replace(comparison.viewing, pixels=other))
    before, after = (program(Params(kit.base), batch) for batch in (comparison, changed))
    assert before.caption_similarity.tolist() == after.caption_similarity.tolist()
    moved = np.asarray(before.image_similarity != after.image_similarity)
    assert moved[0, 1] and not moved[1:].any()
    assert np.any(before.features[0, 1] != after.features[0, 1])
    np.testing.assert_allclose(jnp.linalg.norm(after.features, axis=-1), 1, rtol=1e-5)


def test_captions_of_the_drawings_count(asg: Asg, comparison: Comparison) -> None:
    """A drawing that is described as it was asked for is as similar as can be."""
    kit = asg.kit
    again = jax.tree.map(lambda x: np.repeat(np.asarray(x), 3, axis=0), comparison.prompts)
    found = kit.programs["compare"](Params(kit.base), replace(comparison, captions=again))
    np.testing.assert_allclose(found.caption_similarity, 1, rtol=1e-5)


def test_a_drawing_is_seen_as_its_file_would_be(asg: Asg) -> None:
    kit = asg.kit
    pixels = jax.random.uniform(jax.random.key(0), (1, 2, 32, 32, 3))
    frame = kit.scribe.frame(32, 32, 1)
    prompt = jax.jit(partial(view, kit.backbone, kit.processor))(
        Params(kit.base), Viewing(pixels, frame)
    )
    saved = [Pillow.fromarray(picture) for picture in np.asarray(to_uint8(pixels[0]))]
    request = kit.scribe.pictures(saved)
    want = jax.jit(partial(encode, kit.backbone))(Params(kit.base), request).main
    for name in ("ids", "slot", "positions", "order", "mask"):
        np.testing.assert_array_equal(getattr(prompt, name), getattr(want, name))
    np.testing.assert_allclose(prompt.features, want.features, atol=1e-5)


def test_keys_belong_to_an_example_wherever_it_stands() -> None:
    stream = jnp.array([[0, 1, 5, 2], [0, 1, 6, 2], [0, 1, 5, 3]], jnp.uint32)
    data = jax.random.key_data(keys(stream, 2))
    swapped = jax.random.key_data(keys(stream[::-1], 2))
    assert len(np.unique(data.reshape(-1, data.shape[-1]), axis=0)) == 6
    np.testing.assert_array_equal(data, swapped[::-1])
