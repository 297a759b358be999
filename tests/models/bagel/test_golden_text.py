"""Understanding against the official numbers: prefill, caches, greedy tokens, scores, sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.models.bagel.layout import Text, View, layout
from asg_jax.models.layers.context import visible
from asg_jax.ops.sampling import truncate
from asg_jax.ops.vocab import token_stats
from tests import goldens
from tests.models.bagel.conftest import filled, greedy, image_of, logits
from tests.models.bagel.test_golden_pictures import truncated

FILE = "bagel/und.safetensors"


@pytest.fixture(scope="module")
def und():
    return goldens.facts("bagel/und.json")


def image_at(reference: str, side: int):
    file, key = reference.split(":")
    return image_of([goldens.arrays(f"bagel/{file}")[key]], side)


def grid_of(image) -> tuple[int, int]:
    return tuple(image.grid[0].tolist())


def understanding_prompt(bagel, references, *texts):
    """A prompt of pictures and text turns, with the features in place."""
    images = [image_at(r, bagel.backbone.config.vision.patch) for r in references]
    slots = np.cumsum([0, *(image.patches.shape[1] for image in images)])
    views = [View(grid_of(image), int(slot)) for image, slot in zip(images, slots, strict=False)]
    prompt = layout([[*views, *map(Text, texts)]], bagel.backbone.config)
    return filled(bagel, prompt, images)


def test_und(bagel, und):
    computed = {}
    for case in und["cases"]:
        computed |= context_of(bagel, case)
        computed |= decoding_of(bagel, case)
    computed |= two_images(bagel, und)
    computed |= scores(bagel, und["score"])

    def tolerance(key):
        return (1e-6, 1e-4) if "probs" in key else (5e-5, 5e-5)

    goldens.check_all(FILE, computed, tolerance)


def context_of(bagel, case):
    """Inputs, layers, states, logits and caches of the image segment and of the question."""
    processor, network = bagel.processor, bagel.network()
    text = processor.turn(case["question"])
    assert text == case["text_ids"]
    references = [case["image"]] if case["has_image"] else []
    prompt = understanding_prompt(bagel, references, text)
    total, image = case["context_len"], case["image_segment_len"] or 0
    assert int(prompt.mask.sum()) == total
    positions = prompt.positions[0, :total, 0].tolist()
    assert positions == [*(case["image_segment_position_ids"] or []), *case["text_position_ids"]]
    prefix = bagel.jit("prefill")(prompt)
    assert int(prefix.position[0]) == case["next_rope"]
    hidden = bagel.jit("states")(prompt)[0, :total]
    rows = network.language.rows(prompt)[0][0, 0, :total]
    computed = {
        "vit_segment_in": rows[:image],
        "vit_segment_hidden": hidden[:image],
        "text_segment_in": rows[image:],
        "text_segment_hidden": hidden[image:],
        "text_segment_logits": logits(bagel, hidden[image:]),
    }
    for n in range(bagel.backbone.config.language.layers):
        language = truncated(network.language, n + 1)
        (out,), _ = language.run(
            network.language.rows(prompt), prompt.positions[:, None], visible(prompt)
        )
        computed[f"vit_segment_layer{n}_out"] = out[0, 0, :image]
        computed[f"cache.layer{n}.key"] = prefix.keys[n, 0, :total]
        computed[f"cache.layer{n}.value"] = prefix.values[n, 0, :total]
    return {f"case{case['case']}.{key}": value for key, value in computed.items()}


def decoding_of(bagel, case):
    """Greedy decoding from the start token, and the distributions of the first step."""
    start = [bagel.backbone.config.tokens.bos]
    assert start == [case["start_token"]]
    references = [case["image"]] if case["has_image"] else []
    prompt = understanding_prompt(bagel, references, bagel.processor.turn(case["question"]), start)
    tokens, steps = greedy(bagel, prompt, len(case["greedy_tokens"]))
    assert tokens == case["greedy_tokens"]
    stop = case["stop_test"]
    assert start + tokens[: tokens.index(stop["end_token_id"])] == stop["official_output"]
    computed = {"decode_logits": steps}
    for n, setting in enumerate(case["sampling_first_step"]):
        drawn_from = truncate(
            jnp.asarray(steps[0]),
            jnp.float32(setting["temperature"]),
            jnp.int32(setting["top_k"]),
            jnp.float32(setting["top_p"]),
        )
        probabilities = np.exp(drawn_from)
        assert int((probabilities > 0).sum()) == setting["nonzero"]
        computed[f"sampling{n}.probs"] = probabilities
    return {f"case{case['case']}.{key}": value for key, value in computed.items()}


def two_images(bagel, und):
    facts, cases = und["two_images"], und["cases"]
    references = [case["image"] for case in cases if case["has_image"]][:2]
    text = cases[0]["text_ids"]
    prompt = understanding_prompt(bagel, references, text)
    total = facts["context_len"]
    assert int(prompt.mask.sum()) == total
    position = prompt.positions[0, total - len(text) : total, 0]
    assert position.tolist() == facts["text_position_ids"]
    assert int(bagel.jit("prefill")(prompt).position[0]) == facts["next_rope"]
    hidden = bagel.jit("states")(prompt)[0, total - len(text) : total]
    return {"two_images.text_segment_logits": logits(bagel, hidden)}


def scores(bagel, facts):
    """Log-probs of an answer by teacher forcing, with the picture and without it."""
    question = bagel.processor.turn(facts["question"])
    answer = bagel.processor.turn(facts["answer"])
    assert answer[:-1] == facts["answer_input_ids"]
    assert answer[1:] == facts["label_ids"]
    ids = jnp.array([[answer[1:]]])
    computed: dict = {"score.label_ids": np.array(answer[1:], np.int32)}
    for name, references in (("score", [facts["image"]]), ("score_text_only", [])):
        prompt = understanding_prompt(bagel, references, question, answer[:1])
        hidden = bagel.jit("hidden")(prompt, ids, jnp.ones(ids.shape, bool))
        stats = token_stats(hidden, bagel.backbone.unembedding(bagel.params), ids)
        log_probs = np.asarray(stats.log_prob[0, 0])
        wanted = facts if references else facts["text_only"]
        np.testing.assert_allclose(log_probs.sum(), wanted["sum_logprob"], rtol=2e-5)
        computed[f"{name}.logits"] = logits(bagel, hidden[0, 0])
        computed[f"{name}.token_logprobs"] = log_probs
        if references:
            np.testing.assert_allclose(log_probs.mean(), wanted["mean_logprob"], rtol=2e-5)
            first = int(prompt.mask.sum()) - 1
            assert facts["loss_token_indexes"] == list(range(first, first + len(answer) - 1))
            positions = prompt.positions[0, :first, 0].tolist()
            assert positions == facts["position_ids"][:first]
            lengths = [first - len(question), len(question), len(answer)]
            assert facts["split_lens"] == lengths
    return computed


def test_decoding_continues_past_the_context_alike(bagel, und):
    """Two samples of one prefix that are fed the same tokens have the same states."""
    case = und["cases"][0]
    prompt = understanding_prompt(bagel, [case["image"]], case["text_ids"])
    prefix = bagel.jit("prefill")(prompt)
    ids = jnp.broadcast_to(jnp.array(case["text_ids"]), (1, 2, len(case["text_ids"])))
    mask = jnp.ones(ids.shape, bool).at[0, 1, 5:].set(False)
    hidden, cache = bagel.jit("extend", "room")(ids, mask, prefix, room=4)
    for token in case["text_ids"][5:8]:
        hidden, cache = bagel.jit("decode")(jnp.full((1, 2), token), cache)
    short = bagel.jit("hidden")(prompt, ids[:, :1, :9], jnp.ones((1, 1, 9), bool))
    np.testing.assert_allclose(hidden[0, 1], short[0, 0, 8], atol=5e-5)
    assert jax.tree.map(jnp.shape, cache.keys)[3] == len(case["text_ids"]) + 4
