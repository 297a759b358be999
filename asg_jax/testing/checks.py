"""Checks that any backbone must pass; whoever ports one runs them on a tiny model of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image as Pillow

from asg_jax.backbone import (
    Backbone,
    Bits,
    Draw,
    Flow,
    Params,
    Processor,
    PyTree,
    Sampler,
    Target,
    encode,
    host,
)
from asg_jax.ops.bits import bit_log_probs
from asg_jax.ops.flow import start_noise
from asg_jax.rollout.image import draw as sample
from asg_jax.rollout.text import Texts, predicting_states

G = 2  # texts or pictures of each prompt


def check_backbone(
    backbone: Backbone, processor: Processor, base: PyTree | None = None, tolerance: float = 2e-4
) -> None:
    """Checks that a backbone and its processor keep what `asg_jax.backbone` promises.

    Texts: a prompt computed once and gone on from gives the states of teacher forcing; padding and
    the other prompts of a batch change nothing; what is encoded comes back. Drawings: they have the
    size of the grid and values in [0, 1], come from their keys alone, are what the last preview
    shows, and the native loss compares arrays of their shape; bits are as likely to it as they were
    when drawn, guidance included. The programs have no side effects and give the same bits twice.

    Args:
      backbone: computes in float32, and is small enough to run here.
      processor: belongs to the same model.
      base: parameters; random ones without them.
      tolerance: absolute and relative, of what must agree up to rounding.

    Raises:
      AssertionError: says what is wrong.
    """
    assert isinstance(backbone, Backbone), "it lacks a function of asg_jax.backbone.Backbone"
    assert isinstance(processor, Processor), "it lacks one of asg_jax.backbone.Processor"
    if base is None:
        base = jax.jit(getattr(backbone, "init_base"))(jax.random.key(0))  # noqa: B009
    check = Check(backbone, processor, Params(base), tolerance)
    check.processor_reads_what_it_writes()
    check.texts_continue_a_prompt()
    check.padding_changes_nothing()
    check.drawings_come_from_their_keys()
    check.losses_compare_what_is_drawn()


class Check:
    """One model under check; every method raises AssertionError with what is wrong."""

    def __init__(self, backbone: Any, processor: Processor, params: Params, tolerance: float):
        self.backbone, self.processor, self.params = backbone, processor, params
        self.tolerance = tolerance
        spec = backbone.spec
        grid = spec.grids[0] if spec.grids else spec.max_grid
        self.sampler = Sampler(grid=grid, steps=spec.steps if spec.unrolled else 2, guidance=1.0)
        side = spec.token_pixels
        shape = (grid[0] * side, grid[1] * side, 3)
        noise = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
        self.pictures = [Pillow.fromarray(pixels) for pixels in noise]
        self.words = ("what color is the circle?", "is there a red cross?")

    def same(self, one: Any, other: Any, fault: str) -> None:
        np.testing.assert_allclose(one, other, self.tolerance, self.tolerance, err_msg=fault)

    def run(self, function: Any, *arguments: Any) -> Any:
        """The result of a pure program; it is run twice."""
        effects = jax.make_jaxpr(function)(*arguments).effects
        assert not effects, f"a program has side effects: {effects}"
        program = jax.jit(function)
        one, two = program(*arguments), program(*arguments)
        bits = lambda x: np.asarray(jax.random.key_data(x) if _is_key(x) else x)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            np.testing.assert_array_equal(bits(a), bits(b), err_msg="two runs differ")
        return one

    def texts(self) -> Texts:
        """Two questions about each of two pictures, of different lengths."""
        rows = [self.processor.question(text) for text in self.words]
        rows[1] = rows[1][:-1] if len(rows[0]) == len(rows[1]) else rows[1]
        ids = np.zeros((2, G, max(map(len, rows))), np.int32)
        for n, row in enumerate(rows):
            ids[:, n, : len(row)] = row
        mask = np.arange(ids.shape[2]) < np.array([len(row) for row in rows])[:, None]
        return Texts(host(ids), host(np.broadcast_to(mask, ids.shape).copy()))

    def prompt(self, params: Params, request: Any) -> Any:
        return encode(self.backbone, params, request).main

    def processor_reads_what_it_writes(self) -> None:
        processor, vocabulary = self.processor, self.backbone.spec.vocabulary
        for text in self.words:
            ids = processor.ids(text)
            assert ids and all(0 <= n < vocabulary for n in ids), f"ids of {text!r} are {ids}"
            assert processor.text(ids) == text, f"{text!r} comes back as {processor.text(ids)!r}"
            ended = [*ids, processor.stop_ids[0], *ids]
            assert processor.text(ended) == text, "a text does not end at a stop token"
        pixels = jnp.stack([np.asarray(picture) / np.float32(255) for picture in self.pictures])
        seen, saved = processor.view(pixels), processor.image(self.pictures)
        if np.array_equal(seen.grid, saved.grid):  # else the tower resizes pictures of this size
            rows = np.asarray(saved.patches)[:, : seen.patches.shape[1]]
            self.same(seen.patches, rows, "`view` and `image` see a picture differently")

    def texts_continue_a_prompt(self) -> None:
        """By `prefill`, `extend` and `decode`, as by `hidden` and `states`."""
        texts = self.texts()
        request = self.processor.prompt([[picture] for picture in self.pictures], "ask")

        def both(params, request, texts):
            nothing = jax.tree.map(lambda x: x[..., :0], texts)
            backbone, prompt = self.backbone, self.prompt(params, request)
            forced = predicting_states(backbone, params, prompt, nothing, texts)
            prefix = backbone.prefill(params, prompt)
            ids, mask = texts.ids[..., :1], texts.mask[..., :1]
            first, cache = backbone.extend(params, ids, mask, prefix, 1)
            second, _ = backbone.decode(params, texts.ids[..., 1], cache)
            start, _ = backbone.extend(params, nothing.ids, nothing.mask, prefix, 1)
            every = backbone.states(params, prompt)
            return forced, (start, first, second), prefix.hidden, every

        forced, parts, hidden, every = self.run(both, self.params, request, texts)
        for n, name in enumerate(("`extend` with no token", "`extend`", "`decode`")):
            self.same(parts[n], forced[:, :, n], f"{name} differs from `hidden`")
        last = np.asarray(request.prompts.main.mask).sum(-1) - 1
        rows = np.asarray(every)[np.arange(2), last]
        self.same(rows, hidden, "`states` differs from `prefill`")
        table = self.backbone.unembedding(self.params)
        shape = (self.backbone.spec.vocabulary, hidden.shape[-1])
        assert table.shape == shape, f"`unembedding` has shape {table.shape}, not {shape}"

    def padding_changes_nothing(self) -> None:
        texts, request = self.texts(), self.processor.prompt
        after = jax.jit(
            lambda params, request, texts: self.backbone.hidden(
                params, self.prompt(params, request), texts.ids, texts.mask
            )
        )
        turns = [[self.pictures[0]], [self.pictures[1]]]
        together = after(self.params, request(turns, "ask"), texts)
        alone = after(self.params, request(turns[:1], "ask"), jax.tree.map(lambda x: x[:1], texts))
        self.same(together[:1], alone, "a prompt changes with the others of its batch")
        wrong = jnp.where(texts.mask, texts.ids, 1)
        padded = after(self.params, request(turns, "ask"), replace(texts, ids=wrong))
        real = np.asarray(texts.mask)
        fault = "the ids of padding change what is real"
        self.same(np.asarray(padded)[real], np.asarray(together)[real], fault)

    def drawings_come_from_their_keys(self) -> None:
        request = self.processor.prompt([["a red circle"], ["two crosses"]], "draw")
        keys = jax.random.split(jax.random.key(1), (2, G))
        draw = lambda params, request, keys: sample(
            self.backbone, params, request, keys, self.sampler
        )
        drawn = self.run(draw, self.params, request, keys)
        side = self.backbone.spec.token_pixels
        shape = (2, G, *(n * side for n in self.sampler.grid), 3)
        assert drawn.pixels.shape == shape, f"pictures have shape {drawn.pixels.shape}, not {shape}"
        pixels = np.asarray(drawn.pixels)
        assert (pixels >= 0).all() and (pixels <= 1).all(), "pixels are not in [0, 1]"
        changed = jax.jit(draw)(self.params, request, keys.at[:, 1].set(keys[:, 0]))
        self.same(
            changed.pixels[:, 0], pixels[:, 0], "a picture depends on the others of its group"
        )
        self.same(changed.pixels[0, 1], changed.pixels[0, 0], "one key draws two pictures")
        assert not np.allclose(pixels[0, 0], pixels[0, 1]), "two keys draw one picture"

    def losses_compare_what_is_drawn(self) -> None:
        backbone, spec = self.backbone, self.backbone.spec
        request = self.processor.prompt([["a red circle"], ["two crosses"]], "draw")
        keys = jax.random.split(jax.random.key(2), (2, G))
        bits = spec.kind == "bits"
        sampler = replace(self.sampler, guidance=2.0) if bits else self.sampler

        def terms(params, request, keys):
            target = sample(backbone, params, request, keys, sampler)
            prompts = encode(backbone, params, request)
            condition = backbone.condition(params, prompts, target.keys)
            values = target.values
            goal = Target(values, sampler.grid)
            if bits:
                return target.log_probs, backbone.terms(params, condition, goal, None, sampler)
            noise = start_noise(keys, *values.shape[2:])
            times = jnp.full(keys.shape, 0.5)
            found = backbone.terms(params, condition, goal, Draw(times, noise))
            mixed = 0.5 * values + 0.5 * noise
            return values, found, backbone.velocity(params, condition, mixed, times, sampler.grid)

        values, found, *moved = self.run(terms, self.params, request, keys)
        if bits:
            assert isinstance(found, Bits), "`terms` gives no Bits"
            shape = (*found.bits.shape, 2)
            assert found.logits.shape == shape, f"logits have shape {found.logits.shape}"
            again = bit_log_probs(found.logits, found.bits)
            self.same(again, values, "`terms` differs from the distribution that was drawn from")
            return
        assert isinstance(found, Flow), "`terms` gives no Flow"
        assert found.prediction.shape == values.shape, "`terms` and drawings differ in shape"
        self.same(moved[0], found.prediction, "`velocity` differs from the prediction of `terms`")


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
