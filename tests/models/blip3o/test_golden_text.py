"""Understanding against the official numbers: pictures, tower, logits, greedy tokens, queries."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image as PIL

from asg_jax.models.blip3o.config import Blip3oConfig
from asg_jax.models.blip3o.eva import square
from asg_jax.models.blip3o.processor import Blip3oProcessor
from asg_jax.models.blip3o.vision import window_order
from asg_jax.models.layers.qwen.pictures import MEAN, STD
from asg_jax.models.tokenizers import ByteTokenizer
from asg_jax.ops.vocab import token_stats
from tests import goldens
from tests.models.qwen import image_of

PICTURES, VISION = "blip3o/preprocess.safetensors", "blip3o/vision.safetensors"
TEXT = "blip3o/understanding.safetensors"
single_call = lambda key: (5e-5, 1e-4)


def processor_of(config: Blip3oConfig) -> Blip3oProcessor:
    return Blip3oProcessor(config, ByteTokenizer(config.tokens.specials()))


def names(file: str, end: str) -> list[str]:
    """The golden keys with that end, without it."""
    return [key.removesuffix(end) for key in goldens.arrays(file) if key.endswith(end)]


def test_preprocess(blip3o):
    golden, config = goldens.arrays(PICTURES), blip3o.backbone.config
    computed, squares = {}, []
    for name in names(PICTURES, ".raw_uint8_hwc"):
        raw = golden[f"{name}.raw_uint8_hwc"]
        if name.startswith("eva"):
            squares.append(square(jnp.asarray(raw[None].astype(int)), config.eva.side)[0])
            continue
        # One picture goes through the numbers of the full size.
        processor = processor_of(Blip3oConfig() if name == "realsize" else config)
        image = processor.image([PIL.fromarray(raw)])
        computed[f"{name}.pixel_values"] = image.patches[0, : int(image.mask.sum())]
        computed[f"{name}.grid_thw"] = np.array([[1, *image.grid[0].tolist()]])
    pixels = (np.stack(squares) / np.float32(255) - MEAN) / STD
    computed["eva.pixel_values"] = pixels.transpose(0, 3, 1, 2)
    raw = [key for key in golden if "raw" in key]
    goldens.check_all(PICTURES, computed, lambda key: (1e-5, 1e-4), raw)


def first_layers(part, count: int):
    """A part of the network with only the first layers of its stack."""
    graph, state = nnx.split(part.layers)
    part.layers = nnx.merge(graph, jax.tree.map(lambda x: x[:count], state))
    part.config = replace(part.config, layers=count)
    return part


def test_vision(blip3o):
    golden, config = goldens.arrays(PICTURES), blip3o.backbone.config.vision
    pictures = names(VISION, ".window_index")
    of = lambda *keys: image_of(
        [golden[f"{k}.pixel_values"] for k in keys], [golden[f"{k}.grid_thw"][0, 1:] for k in keys]
    )
    computed, merged = {}, config.merge**2
    encode = blip3o.jit("encode_image")
    for name in pictures:
        image = of(name)
        count = int(image.mask.sum())
        order, window = window_order(image.grid, image.patches.shape[1] // merged, config)
        sizes = np.unique(window[0, : count // merged], return_counts=True)[1]
        computed[f"{name}.window_index"] = order[0, : count // merged]
        computed[f"{name}.cu_window_seqlens"] = np.cumsum([0, *sizes]) * merged
        computed[f"{name}.features"] = encode(image)[0, : count // merged]
        tower = blip3o.network().vision
        computed[f"{name}.debug.patch_embed"] = tower.embed(image)[0, :count]
        for layers in range(config.layers):
            part = first_layers(blip3o.network().vision, layers + 1)
            computed[f"{name}.debug.block{layers}"] = jax.jit(part.rows)(image)[0][0, :count]
    features = encode(of(*pictures))
    counts = [len(computed[f"{name}.window_index"]) for name in pictures]
    computed["both.features"] = np.concatenate(
        [row[:count] for row, count in zip(features, counts, strict=True)]
    )
    goldens.check_all(VISION, computed, single_call)


def logits(blip3o, hidden):
    return hidden @ blip3o.backbone.unembedding(blip3o.params).T


@pytest.fixture(scope="module")
def golden():
    return goldens.arrays(TEXT)


def test_understanding(blip3o, golden):
    computed = batch(blip3o, golden)
    for case in names(TEXT, ".answer_ids"):
        computed |= one(blip3o, golden, case) | greedy(blip3o, golden, case)
    inputs = [key for key in golden if key.endswith(("_ids", "mask")) and "position" not in key]
    goldens.check_all(TEXT, computed, single_call, inputs)


def picture_of(case: str) -> str:
    return f"image{case[-1]}"


def one(blip3o, golden, case):
    """One picture and a question: indexes, states, logits, and log-probs of an answer."""
    ids = golden[f"{case}.input_ids"]
    count = ids.shape[1]
    prompt = blip3o.prompt(ids, [picture_of(case)])
    answer = jnp.asarray(golden[f"{case}.answer_ids"], jnp.int32)[:, None]
    forced = blip3o.jit("hidden")(prompt, answer, jnp.ones(answer.shape, bool))
    table = blip3o.backbone.unembedding(blip3o.params)
    position = blip3o.jit("prefill")(prompt).position
    hidden = blip3o.jit("states")(prompt)[:, :count]
    found = {
        f"{case}.position_ids": prompt.positions[:, :count].transpose(2, 0, 1),
        f"{case}.rope_delta": position[:, None] - count,
        f"{case}.logits": logits(blip3o, hidden),
        f"{case}.answer_logprobs": token_stats(forced, table, answer).log_prob[:, 0],
    }
    for key in golden:
        if key.startswith(f"{case}.debug.hidden"):
            found[key] = states_after(blip3o, prompt, int(key.rsplit("hidden", 1)[1]))[:, :count]
    return found


def states_after(blip3o, prompt, layers):
    """States after some layers; after the last one they are normed."""
    if layers == blip3o.backbone.config.language.layers:
        return blip3o.jit("states")(prompt)
    model = blip3o.network().language
    rows = model.rows(prompt)
    if layers:
        model = first_layers(model, layers)
        causal = jnp.tril(jnp.ones((prompt.ids.shape[1],) * 2, bool))[None, None]
        rows, _ = jax.jit(model.run)(rows, prompt.positions[:, None], causal)
    return rows[0][:, 0]


def greedy(blip3o, golden, case):
    """The most probable continuation, and the logits of every step."""
    count = golden[f"{case}.greedy_tokens"].shape[1]
    prefix = blip3o.jit("prefill")(blip3o.prompt(golden[f"{case}.input_ids"], [picture_of(case)]))
    nothing = jnp.zeros((1, 1, 0), jnp.int32)
    hidden, cache = blip3o.jit("extend", "room")(nothing, nothing.astype(bool), prefix, room=count)
    tokens, steps = [], []
    for _ in range(count):
        steps.append(np.asarray(logits(blip3o, hidden)[0, 0]))
        tokens.append(int(steps[-1].argmax()))
        hidden, cache = blip3o.jit("decode")(jnp.full((1, 1), tokens[-1]), cache)
    return {
        f"{case}.greedy_tokens": np.array([tokens]),
        f"{case}.greedy_step_logits": np.stack(steps)[None],
    }


def batch(blip3o, golden):
    """A picture in each of two rows; the official ones are padded on the left."""
    mask = golden["batch.attention_mask"].astype(bool)
    rows = [ids[real] for ids, real in zip(golden["batch.input_ids"], mask, strict=True)]
    prompt = blip3o.prompt(rows, [f"image{n}" for n in range(len(rows))])
    found = logits(blip3o, blip3o.jit("states")(prompt))
    last = golden["batch.logits_last24"].shape[1]
    positions = np.ones((3, *mask.shape), int)
    for n, row in enumerate(rows):
        positions[:, n, mask[n]] = prompt.positions[n, : len(row)].T
    return {
        "batch.position_ids": positions,
        "batch.rope_delta": blip3o.jit("prefill")(prompt).position[:, None] - mask.shape[1],
        "batch.logits_last24": np.stack(
            [found[n, len(row) - last : len(row)] for n, row in enumerate(rows)]
        ),
    }


def test_queries(blip3o):
    file = "blip3o/queries.safetensors"
    golden, computed = goldens.arrays(file), {}
    states = jax.jit(blip3o.network().query_states)
    for name in names(file, ".input_ids"):
        shown = ["image0"] if name.startswith("image") else []
        prompt = blip3o.drawing(golden[f"{name}.input_ids"][0], shown)
        computed[f"{name}.query_hidden"] = states(prompt)
    inputs = [key for key in golden if key.endswith(".input_ids")]
    goldens.check_all(file, computed, single_call, inputs)


def test_prompts_of_the_processor(blip3o):
    """The chat form of the official inference, the blank prompt, and pictures without a break."""
    processor = processor_of(blip3o.backbone.config)
    texts = goldens.facts("blip3o/config.json")["texts"]
    prompts = processor.prompt([[texts["caption"]]], "draw").prompts
    queries = goldens.arrays("blip3o/queries.safetensors")
    for prompt, name in ((prompts.main, "templated"), (prompts.negative, "blank")):
        wanted = blip3o.drawing(queries[f"{name}.input_ids"][0])
        jax.tree.map(np.testing.assert_array_equal, prompt, wanted)
    text, pictures = goldens.arrays(TEXT), goldens.arrays(PICTURES)
    for case in names(TEXT, ".answer_ids"):
        picture = PIL.fromarray(pictures[f"{picture_of(case)}.raw_uint8_hwc"])
        found = processor.prompt([[picture, texts["question"]]], "answer").prompts.main
        assert (
            np.asarray(found.ids)[np.asarray(found.mask)].tolist()
            == text[f"{case}.input_ids"][0].tolist()
        )
