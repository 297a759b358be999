"""The checks pass what keeps the protocol, and name what does not."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from asg_jax.models.registry import open_model
from asg_jax.signals.table import DRAWINGS, QUESTIONS, Signal
from asg_jax.testing import Toy, ToyProcessor, check_backbone, check_signal, make_tiny, toy


@pytest.mark.parametrize("kind", ["flow", "bits"])
def test_the_toy_keeps_the_protocol(kind):
    check_backbone(Toy(kind), ToyProcessor(), toy.base())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bagel-tiny", "vargpt-tiny", "random:blip3o-4m"])
def test_every_backbone_keeps_the_protocol(name, tmp_path):
    model = open_model(name) if name.startswith("random:") else make_tiny(name, tmp_path)
    check_backbone(model.backbone, model.processor, model.base)


class Forgetful(Toy):
    def decode(self, params, token, cache):
        return self.state(params, token), cache


class Talkative(Toy):
    def prefill(self, params, prompt):
        jax.debug.print("here")
        return super().prefill(params, prompt)


class Padded(Toy):
    def prefill(self, params, prompt):
        return super().prefill(params, replace(prompt, mask=jnp.ones_like(prompt.mask)))

    def hidden(self, params, prompt, ids, mask):
        return super().hidden(params, prompt, ids, mask) + prompt.ids.shape[0]


class Bright(Toy):
    def pixels(self, params, condition, target, keys):
        return super().pixels(params, condition, target, keys) * 2


class Fixed(Toy):
    def start(self, params, condition, keys, sampler):
        return super().start(params, condition, keys.at[:].set(keys[0, 0]), sampler)

    def pixels(self, params, condition, target, keys):
        return super().pixels(params, condition, target, keys.at[:].set(keys[0, 0]))


class Cold(Toy):
    def terms(self, params, condition, target, draw, sampler: Any = None):
        found: Any = super().terms(params, condition, target, draw)
        return replace(found, logits=found.logits / sampler.guidance)


class Mute(ToyProcessor):
    def text(self, ids):
        return super().text(ids).upper()


@pytest.mark.parametrize(
    ("backbone", "processor", "fault"),
    [
        (Forgetful(), ToyProcessor(), "`decode` differs from `hidden`"),
        (Talkative(), ToyProcessor(), "side effects"),
        (Padded(), ToyProcessor(), "differs from `hidden`"),
        (Bright(), ToyProcessor(), r"pixels are not in \[0, 1\]"),
        (Fixed(), ToyProcessor(), "two keys draw one picture"),
        (Cold("bits"), ToyProcessor(), "differs from the distribution that was drawn from"),
        (Toy(), Mute(), "comes back as"),
        (object(), ToyProcessor(), "lacks a function"),
    ],
)
def test_a_fault_is_named(backbone, processor, fault):
    with pytest.raises(AssertionError, match=fault):
        check_backbone(backbone, processor, toy.base())


@pytest.mark.parametrize("name", DRAWINGS)
def test_signals_of_drawings_pass(name):
    check_signal(DRAWINGS[name])


@pytest.mark.parametrize("name", QUESTIONS)
def test_signals_of_questions_pass(name):
    check_signal(QUESTIONS[name], "questions")


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (lambda drawn, numbers: drawn.match, "not .examples, samples."),
        (lambda drawn, numbers: drawn.likelihood - drawn.likelihood.mean(), "other examples"),
        (lambda drawn, numbers: drawn.likelihood * jnp.arange(4), "does not move with its sample"),
        (lambda drawn, numbers: jnp.log(drawn.likelihood), "not finite"),
    ],
)
def test_a_fault_of_a_signal_is_named(read, fault):
    with pytest.raises(AssertionError, match=fault):
        check_signal(Signal(read))
