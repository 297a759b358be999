"""The protocol's types carry an understanding and a generation call of each backbone.

BAGEL and BLIP3o run their real code at full size through `jax.eval_shape`. VARGPT-v1.1 is stood for
by the shapes of its data at full size: what its prompts, caches, conditions and rollout states hold
fits the types that the method sees.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import (
    Backbone,
    Bits,
    BitsTrace,
    Cache,
    Draw,
    Image,
    LoRA,
    Params,
    Prefix,
    Prompt,
    Prompts,
    Sampler,
    Spec,
    State,
    Target,
    to_uint8,
)
from asg_jax.models.bagel.backbone import BagelBackbone
from asg_jax.models.bagel.config import BagelConfig
from asg_jax.models.blip3o.backbone import Blip3oBackbone
from asg_jax.models.blip3o.config import Blip3oConfig

B, G, T = 2, 3, 5


@dataclass(frozen=True)
class QwenShapes:
    """Understanding of a Qwen2-VL type model: features of merged 2x2 patches, 3-axis indexes."""

    vocabulary: int
    width: int = 3584
    layers: int = 28
    head: tuple[int, int] = (4, 128)

    def encode_image(self, params, image):
        batch, patches, _ = image.patches.shape
        return jnp.zeros((batch, patches // 4, self.width))

    def prefill(self, params, prompt):
        assert prompt.positions.shape[-1] == 3
        batch, rows = prompt.ids.shape
        kv = jnp.zeros((self.layers, batch, rows, *self.head))
        position = prompt.positions.max((1, 2)) + 1
        return Prefix(kv, kv, prompt.mask, position, jnp.zeros((batch, self.width)))

    def extend(self, params, ids, mask, prefix, room):
        batch, samples, length = ids.shape
        kv = jnp.zeros((self.layers, batch, samples, length + room, *self.head))
        seen = jnp.pad(mask, ((0, 0), (0, 0), (0, room)))
        position = prefix.position[:, None] + mask.sum(-1)
        hidden = jnp.zeros((batch, samples, self.width))
        return hidden, Cache(prefix, kv, kv, seen, position, jnp.int32(length))

    def decode(self, params, token, cache):
        return jnp.zeros((*token.shape, self.width)), replace(cache, index=cache.index + 1)

    def hidden(self, params, prompt, ids, mask):
        return jnp.zeros((*ids.shape, self.width))

    def states(self, params, prompt):
        return jnp.zeros((*prompt.ids.shape, self.width))

    def unembedding(self, params):
        return jnp.zeros((self.vocabulary, self.width))

    def encode_latents(self, params, target):
        return jnp.zeros((*target.values.shape[:-1], self.width))


SCALES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32)  # square sides of the 512 x 512 schedule


@dataclass(frozen=True)
class VargptShapes(QwenShapes):
    """Bits of ten scales; every step has its own shape, so the step index is static."""

    vocabulary: int = 152064
    spec = Spec("bits", len(SCALES), True, 16, 32, (32, 32), 3, 152064)
    tokens = sum(side * side for side in SCALES)

    def encode_target(self, params, pixels, key):
        bits = jnp.zeros((pixels.shape[0], self.tokens, 32), jnp.int32)
        return Target(bits, (32, 32))

    def condition(self, params, prompts, keys):
        batch, rows = prompts.main.ids.shape
        cross = jnp.zeros((32, batch, rows, 16, 128))
        return {"keys": cross, "values": cross, "mask": prompts.main.mask}

    def start(self, params, condition, keys, sampler):
        cache = jnp.zeros((32, *keys.shape, self.tokens, 16, 128))
        inner = {"sum": jnp.zeros((*keys.shape, 32, 32, 32)), "keys": cache, "values": cache}
        bits = jnp.zeros((*keys.shape, self.tokens, 32), jnp.int32)
        return State(inner, keys, BitsTrace(bits, bits.astype(jnp.float32)))

    def step(self, params, condition, state, i, sampler):
        assert isinstance(i, int)
        first = sum(side * side for side in SCALES[:i])
        rows = slice(first, first + SCALES[i] ** 2)
        bits = jnp.ones((*state.keys.shape, SCALES[i] ** 2, 32), jnp.int32)
        trace = replace(state.trace, bits=state.trace.bits.at[..., rows, :].set(bits))
        return replace(state, trace=trace)

    def preview(self, params, condition, state, sampler):
        return Target(state.trace.bits, sampler.grid)

    def pixels(self, params, condition, target, keys):
        return jnp.zeros((*keys.shape, 512, 512, 3))

    def velocity(self, params, condition, x, t, grid):
        raise TypeError("VARGPT predicts bits, it has no velocity")

    def terms(self, params, condition, target, draw):
        return Bits(jnp.zeros((*target.values.shape, 2)), target.values)


def shapes(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), tree)


def image_shapes(patches, width):
    make = lambda: Image(
        jnp.zeros((B, patches, width)), jnp.zeros((B, 2), int), jnp.zeros((B, patches), bool)
    )
    return jax.eval_shape(make)


def prompt_shapes(rows, axes, width=3584, features=None, latents=0):
    def make():
        ints = jnp.zeros((B, rows), int)
        rows_of = jnp.zeros((B, features, width)) if features else None
        positions = jnp.zeros((B, rows, axes), int)
        return Prompt(ints, ints, positions, ints, ints.astype(bool), rows_of, latents)

    return jax.eval_shape(make)


KEYS = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), (B, G)))
IDS = jax.ShapeDtypeStruct((B, G, T), jnp.int32)
MASK = jax.ShapeDtypeStruct((B, G, T), bool)

BAGEL = BagelBackbone(BagelConfig().compute("bfloat16", remat="full"))
BLIP3O = Blip3oBackbone(Blip3oConfig().compute("bfloat16", remat="full"))
MODELS = {
    "bagel": (BAGEL, image_shapes(1024, 588), 1024, (64, 64)),
    "blip3o": (BLIP3O, image_shapes(4096, 1176), 1024, (8, 8)),
    "vargpt": (VargptShapes(), image_shapes(1296, 1176), 324, (32, 32)),
}


@pytest.fixture(params=MODELS)
def model(request):
    backbone, *rest = MODELS[request.param]
    base = backbone.abstract_base() if backbone in (BAGEL, BLIP3O) else {}
    return backbone, Params(base), *rest


def test_is_a_backbone(model):
    assert isinstance(model[0], Backbone)


def test_understanding(model):
    """Encode, prefill, extend with a question, decode, score an answer."""
    backbone, params, image, rows, _ = model
    prompt = prompt_shapes(rows + 40, backbone.spec.axes)

    def walk(params, image, prompt, ids, mask):
        features = backbone.encode_image(params, image)
        prompt = replace(prompt, features=features)
        prefix = backbone.prefill(params, prompt)
        hidden, cache = backbone.extend(params, ids, mask, prefix, 7)
        token = jnp.argmax(hidden.astype(jnp.float32) @ backbone.unembedding(params).T, -1)
        after, cache = backbone.decode(params, token, cache)
        sampled, _ = backbone.extend(params, ids[:, :, :0], mask[:, :, :0], prefix, 7)
        scored = backbone.hidden(params, prompt, ids, mask)
        return features, hidden, cache, after, sampled, scored, backbone.states(params, prompt)

    features, hidden, cache, after, sampled, scored, states = jax.eval_shape(
        walk, params, image, prompt, IDS, MASK
    )
    width = features.shape[-1]
    assert features.shape == (B, rows, width)
    assert hidden.shape == after.shape == sampled.shape == (B, G, width)
    assert scored.shape == (B, G, T, width)
    assert states.shape == (B, rows + 40, width)
    assert cache.keys.shape[1:4] == (B, G, T + 7)
    assert cache.prefix.keys.shape[1:3] == (B, rows + 40)
    assert cache.position.shape == (B, G)


def test_generation(model):
    """Condition, all steps, preview, pixels, and the terms of the training loss."""
    backbone, params, _, _, grid = model
    spec, sampler = backbone.spec, Sampler(grid=grid, steps=backbone.spec.steps)
    prompt = prompt_shapes(48, spec.axes)
    prompts = Prompts(prompt, negative=prompt)
    run = jax.eval_shape
    condition = run(backbone.condition, params, prompts, jax.eval_shape(lambda k: k[:, 0], KEYS))
    state = run(lambda p, c, k: backbone.start(p, c, k, sampler), params, condition, KEYS)
    for i in range(spec.steps) if spec.unrolled else [0]:
        step = lambda p, c, s, i=i: backbone.step(p, c, s, i, sampler)
        after = run(step, params, condition, state)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        assert jax.tree.leaves(shapes(after)) == jax.tree.leaves(shapes(state))
    target = run(lambda p, c, s: backbone.preview(p, c, s, sampler), params, condition, state)
    tokens = target.values.shape[2]
    assert target.values.shape == (B, G, tokens, spec.token_channels)
    assert target.grid == grid
    if spec.kind == "flow":
        assert tokens == grid[0] * grid[1]
    pixels = run(backbone.pixels, params, condition, target, KEYS)
    assert pixels.shape == (B, G, grid[0] * spec.token_pixels, grid[1] * spec.token_pixels, 3)
    noise = jax.ShapeDtypeStruct(target.values.shape, jnp.float32)
    draw = run(lambda: Draw(jnp.zeros((B, G)), jnp.zeros(noise.shape)))
    terms = run(backbone.terms, params, condition, target, draw)
    if spec.kind == "flow":
        assert terms.prediction.shape == terms.goal.shape == target.values.shape
        velocity = lambda p, c, x, t: backbone.velocity(p, c, x, t, grid)
        assert run(velocity, params, condition, noise, draw.t).shape == noise.shape
    else:
        assert terms.logits.shape == (*terms.bits.shape, 2)


def test_encoding_a_target(model):
    backbone, params, _, _, grid = model
    side = backbone.spec.token_pixels
    pixels = jax.ShapeDtypeStruct((B, grid[0] * side, grid[1] * side, 3), jnp.float32)
    target = jax.eval_shape(lambda p, x: backbone.encode_target(p, x, None), params, pixels)
    assert target.grid == grid
    assert target.values.shape[::2] == (B, backbone.spec.token_channels)
    if backbone is BLIP3O:
        with pytest.raises(ValueError, match="show it the picture"):
            jax.eval_shape(backbone.encode_latents, params, target)
        return
    rows = jax.eval_shape(backbone.encode_latents, params, target)
    assert rows.shape[:2] == target.values.shape[:2]


def test_editing_at_full_size():
    """A picture as latents and as a view in the context: 4096 latent rows after 1100 text rows."""
    prompt = prompt_shapes(1100 + 4096, 1, features=1024 + 4096, latents=4096)
    text = prompt_shapes(48, 1)
    view = prompt_shapes(1060 + 4096, 1, features=1024 + 4096, latents=4096)
    params, keys = Params(BAGEL.abstract_base()), jax.eval_shape(lambda k: k[:, 0], KEYS)
    condition = jax.eval_shape(BAGEL.condition, params, Prompts(prompt, view, text), keys)
    assert condition.branches.mask.shape == (3 * B, 1100 + 4096)


def test_gradient_reaches_a_full_size_adapter():
    """The teacher-forced pass of the 7B with rank-16 factors, differentiated, as shapes."""
    factors = lambda: LoRA(jnp.zeros((28, 3584, 16)), jnp.zeros((28, 16, 3584)), 2.0)
    adapter = {"language.layers.und.q_proj": jax.eval_shape(factors)}
    prompt = prompt_shapes(1100, 1, features=1024)

    def loss(adapter, base, prompt, ids, mask):
        hidden = BAGEL.hidden(Params(base, adapter), prompt, ids, mask)
        return hidden.astype(jnp.float32).sum()

    gradient = jax.eval_shape(jax.grad(loss), adapter, BAGEL.abstract_base(), prompt, IDS, MASK)
    assert jax.tree.leaves(gradient) == jax.tree.leaves(adapter)


def test_pixels_are_truncated_to_8_bits():
    pixels = jnp.array([[[[-0.1, 0.999, 1.2]]]])
    assert to_uint8(pixels).ravel().tolist() == [0, 254, 255]


def test_which_adapters_change_what_the_model_sees():
    spec = Spec("flow", 1, False, 1, 1, (1, 1), 1, 1)
    assert spec.sees_through("vision.layers.attention.q_proj")
    assert spec.sees_through("connector.fc1")
    assert not spec.sees_through("language.vision.layers")
    assert not spec.sees_through("connectors")
    assert replace(spec, tower="eye").sees_through("eye")
