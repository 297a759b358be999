"""Understanding against the official numbers: patches, positions, logits, greedy tokens, scores."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PIL

from asg_jax.models.layers.qwen.layout import layout
from asg_jax.models.tokenizers import ByteTokenizer
from asg_jax.models.vargpt.processor import VargptProcessor
from asg_jax.models.vargpt.training import official_pixels
from asg_jax.ops.vocab import token_stats
from tests import goldens
from tests.models.qwen import image_of, segments

FILE = "vargpt/03_understanding.safetensors"


def test_preprocess(vargpt):
    file, config = "vargpt/01_preprocess.safetensors", vargpt.backbone.config
    golden = goldens.arrays(file)
    processor = VargptProcessor(config, ByteTokenizer(config.tokens.specials()))
    computed = {}
    for key, value in golden.items():
        kind, name = key.split(".")[1].split("_", 1)
        if key.startswith("in.image_"):
            image = processor.image([PIL.fromarray(value)])
            count = int(image.mask.sum())
            computed[f"out.pixel_values_{name}"] = image.patches[0, :count]
            computed[f"out.grid_{name}"] = np.array([[1, *image.grid[0].tolist()]])
        elif key.startswith("in.coerce_"):
            computed[f"out.{kind}_{name}"] = official_pixels(value).transpose(0, 3, 1, 2)
    inputs = [key for key in golden if key.startswith("in.")]
    goldens.check_all(file, computed, lambda key: (1e-6, 1e-6), inputs)


def prompt_of(vargpt, rows, names, plain=False):
    """Prompts of token ids; conversation n shows the pictures `names[n]`, in order."""
    golden, config = goldens.arrays("vargpt/01_preprocess.safetensors"), vargpt.backbone.config
    images, grids, slots = [], [], []
    for k in range(len(names[0])):
        chosen = [row[k] for row in names]
        sizes = [golden[f"out.grid_{name}"][0, 1:] for name in chosen]
        image = image_of([golden[f"out.pixel_values_{name}"] for name in chosen], sizes)
        slots.append(sum(i.patches.shape[1] for i in images) // config.vision.merge**2)
        images.append(image)
        grids.append([size // config.vision.merge for size in sizes])
    conversations = [
        segments(row, [grid[n] for grid in grids], slots, config.tokens.picture)
        for n, row in enumerate(rows)
    ]
    prompt = jax.tree.map(jnp.asarray, layout(conversations, plain))
    features = [vargpt.jit("encode_image")(image) for image in images]
    return replace(prompt, features=jnp.concatenate(features, axis=1))


def logits(vargpt, hidden):
    return hidden @ vargpt.backbone.unembedding(vargpt.params).T


@pytest.fixture(scope="module")
def golden():
    return goldens.arrays(FILE)


def test_understanding(vargpt, golden):
    computed = {**one(vargpt, golden), **batch(vargpt, golden), **greedy(vargpt, golden)}
    for scheme in ("mrope", "arange"):
        computed |= answer(vargpt, golden, scheme)
    inputs = [key for key in golden if key.startswith("in.")]
    tolerance = lambda key: (1e-5, 0) if "_ce_" in key else (1e-4, 0)
    goldens.check_all(FILE, computed, tolerance, inputs)


def one(vargpt, golden):
    """One picture and a question: indexes, states and logits under both schemes."""
    ids = golden["in.input_ids"]
    count = ids.shape[1]
    prompt = prompt_of(vargpt, ids, ["a"])
    plain = prompt_of(vargpt, ids, ["a"], plain=True)
    hidden = vargpt.jit("states")(prompt)[:, :count]
    position = vargpt.jit("prefill")(prompt).position
    return {
        "out.position_ids_mrope": prompt.positions[:, :count].transpose(2, 0, 1),
        "out.rope_delta": position[:, None] - count,
        "out.hidden_0_mrope": vargpt.network().language.rows(prompt)[0][:, 0, :count],
        "out.hidden_last_mrope": hidden,
        "out.logits_mrope": logits(vargpt, hidden),
        "out.logits_arange": logits(vargpt, vargpt.jit("states")(plain)[:, :count]),
    }


def batch(vargpt, golden):
    """Two rows with two pictures each; the official ones are padded on the left."""
    mask = golden["in.batch_attention_mask"].astype(bool)
    rows = [ids[real] for ids, real in zip(golden["in.batch_input_ids"], mask, strict=True)]
    prompt = prompt_of(vargpt, rows, ["ab", "ab"])
    found = logits(vargpt, vargpt.jit("states")(prompt))
    positions, values = np.ones((3, *mask.shape), int), np.zeros((*mask.shape, found.shape[-1]))
    for n, row in enumerate(rows):
        positions[:, n, mask[n]] = prompt.positions[n, : len(row)].T
        values[n, mask[n]] = found[n, : len(row)]
    return {
        "out.batch_position_ids": positions,
        "out.batch_rope_delta": vargpt.jit("prefill")(prompt).position[:, None] - mask.shape[1],
        "out.batch_logits_valid": values,
    }


def greedy(vargpt, golden):
    """The most probable continuation, and the logits of every step."""
    count = len(golden["out.greedy_tokens"])
    prefix = vargpt.jit("prefill")(prompt_of(vargpt, golden["in.input_ids"], ["a"]))
    nothing = jnp.zeros((1, 1, 0), jnp.int32)
    hidden, cache = vargpt.jit("extend", "room")(nothing, nothing.astype(bool), prefix, room=count)
    tokens, steps = [], []
    for _ in range(count):
        steps.append(np.asarray(logits(vargpt, hidden)[0, 0]))
        tokens.append(int(steps[-1].argmax()))
        hidden, cache = vargpt.jit("decode")(jnp.full((1, 1), tokens[-1]), cache)
    return {"out.greedy_tokens": np.array(tokens), "out.greedy_step_logits": np.stack(steps)}


def answer(vargpt, golden, scheme):
    """Log-probs of an answer by teacher forcing."""
    prompt = prompt_of(vargpt, golden["in.input_ids"], ["a"], plain=scheme == "arange")
    ids = jnp.asarray(golden["in.answer_ids"], jnp.int32)[None, None]
    hidden = vargpt.jit("hidden")(prompt, ids, jnp.ones(ids.shape, bool))
    stats = token_stats(hidden, vargpt.backbone.unembedding(vargpt.params), ids)
    return {
        f"out.answer_logprobs_{scheme}": stats.log_prob[0],
        f"out.answer_ce_{scheme}": -stats.log_prob.mean(),
    }
