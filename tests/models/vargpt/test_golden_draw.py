"""Drawing against the official numbers: every scale of every run, and log-probs of its bits."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Params, Prompts, Sampler, Target, to_uint8
from asg_jax.models.checkpoint import paths
from asg_jax.models.vargpt import drawing
from asg_jax.models.vargpt.checkpoint import table
from asg_jax.models.vargpt.quantizer import dequantize
from asg_jax.models.vargpt.training import (
    IMAGE_WEIGHT,
    mean_losses,
    official_pixels,
    surrogate_log_probs,
    training_batch,
    training_forward,
)
from tests import goldens
from tests.models.loaded import row_keys
from tests.models.vargpt.golden import facts, grid

CONTEXT = "vargpt/07_generation_ctx.safetensors"
ROLLOUT = "vargpt/08_generation_asg_rollout.safetensors"
SCORES = "vargpt/09_logprob.safetensors"
# guidance, temperature and top-p of each run
RUNS = {
    "nocfg_argmax": (1.0, 1.0, 1.0),
    "nocfg_uniform": (1.0, 1.0, 1.0),
    "cfg3_argmax": (3.0, 0.5, 1.0),
    "official_uniform": (3.0, 0.5, 0.97),
    "nonsquare_uniform": (3.0, 0.5, 0.97),
    "schedule_uniform": (None, None, 0.9),
}


def condition_of(vargpt, ids):
    prompts = Prompts(vargpt.prompt(ids))
    return vargpt.jit("condition")(prompts, row_keys(prompts))


def samplers(golden, run, size, scales):
    """Settings of every scale."""
    guidance, temperature, top_p = RUNS[run]
    lists = [golden.get(f"in.{run}_{name}_list") for name in ("cfg", "tau")]
    if guidance is not None:
        lists = [[guidance] * scales, [temperature] * scales]
    # One scale with guidance needs both branches at every scale.
    one = np.nextafter(1, 2) if max(lists[0]) > 1 else 1.0
    return [
        Sampler(size, guidance=one if c == 1 else float(c), temperature=float(t), top_p=top_p)
        for c, t in zip(*lists, strict=True)
    ]


@cache
def compiled(backbone):
    """The logits of a scale, compiled once for all runs of one guidance and temperature."""

    def logits(params, condition, inner, n, sampler):
        return drawing.scale_logits(backbone.model(params), condition, inner, n, sampler)

    return jax.jit(logits, static_argnums=(3, 4))


def run_of(vargpt, condition, golden, run):
    """Everything that a file holds of one run."""
    size = grid("ns" if run.startswith("nonsquare") else "sq")
    schedule, model = vargpt.backbone.config.schedule(size), vargpt.network()
    settings = samplers(golden, run, size, len(schedule.grids))
    start = vargpt.backbone.start(
        vargpt.params, condition, jax.random.split(jax.random.key(0), (1, 1)), settings[0]
    )
    inner, computed, bits = start.inner, {}, []

    for n, (height, width) in enumerate(schedule.grids):
        if f"out.{run}_llm_hidden_{n}" in golden:
            branch = drawing.branch_of(condition, settings[n])
            hidden, _ = drawing.language_step(model, branch, inner, n, schedule)
            computed[f"llm_hidden_{n}"] = hidden[0]
        untruncated = replace(settings[n], top_p=1.0)
        logits, inner = compiled(vargpt.backbone)(vargpt.params, condition, inner, n, untruncated)
        computed[f"logits_{n}"] = logits.reshape(1, -1, 2)
        log_probs = drawing.bit_log_probs(logits, settings[n])
        given = golden.get(f"in.{run}_uniform_{n}")
        drawn = logits.argmax(-1)
        if given is not None:
            drawn = drawing.choose(log_probs, jnp.asarray(given)[None])
        computed[f"bits_{n}"] = drawn.reshape(1, height, width, -1).astype(jnp.uint8)
        bits.append(drawn)
        inner = drawing.commit(inner, drawn, schedule, n)
    target = Target(jnp.concatenate(bits, axis=2), size)
    pixels = vargpt.backbone.pixels(vargpt.params, condition, target, start.keys)[0, 0]
    computed["summed_codes"] = inner.total[0].transpose(0, 3, 1, 2)
    computed["image_float"] = (pixels * 2 - 1).transpose(2, 0, 1)[None]
    computed["image_u8_bgr_hwc"] = np.asarray(to_uint8(pixels))[..., ::-1]
    return {f"out.{run}_{key}": value for key, value in computed.items()}


def close_pictures(computed, golden):
    """8-bit pictures may differ by one level on at most 0.5 % of the values."""
    for key in [key for key in computed if key.endswith("u8_bgr_hwc")]:
        difference = np.abs(computed[key].astype(int) - golden[key].astype(int))
        if difference.max() <= 1 and np.mean(difference > 0) <= 0.005:
            computed[key] = golden[key]
    return computed


def tolerance(key):
    return (1e-4, 0) if "image_float" in key or "summed" in key else (2e-4, 0)


@pytest.mark.parametrize("file", [pytest.param(CONTEXT, marks=pytest.mark.slow), ROLLOUT])
def test_runs(vargpt, file):
    golden, ids = goldens.arrays(file), goldens.arrays(file)["in.prompt_ids"]
    if file == CONTEXT:
        start = np.full((1, 1), vargpt.backbone.config.tokens.draw_start)
        ids = np.concatenate([ids, start], axis=1)
    condition = condition_of(vargpt, ids)
    if file == ROLLOUT:
        condition = drawing.forgetful(condition)
    computed = {"out.past_hidden_states": vargpt.jit("states")(vargpt.prompt(ids))}
    for run in RUNS:
        if f"out.{run}_bits_0" in golden:
            computed |= close_pictures(run_of(vargpt, condition, golden, run), golden)
    inputs = [key for key in golden if key.startswith("in.")]
    goldens.check_all(file, computed, tolerance, inputs)


def total_log_prob(vargpt, params, ids, bits):
    """Log-prob of every bit after a prompt that ends in the start token, and the logits."""
    prompts = Prompts(vargpt.prompt(ids))
    condition = vargpt.backbone.condition(params, prompts, row_keys(prompts))
    target = Target(bits[:, None], grid("sq"))
    terms = vargpt.backbone.terms(params, condition, target, None)
    log_probs = jax.nn.log_softmax(terms.logits)
    chosen = jnp.take_along_axis(log_probs, terms.bits[..., None], axis=-1)[..., 0]
    return chosen[:, 0], terms.logits[:, 0]


def official(vargpt, gradient):
    """Gradients by official name."""
    leaves, found = dict(paths(gradient)), {}
    for name, tensor in table(vargpt.backbone.config, vargpt.params.base).items():
        leaf = np.asarray(leaves[tensor.path])
        found[name] = tensor.source.layout.store(
            leaf if tensor.layer is None else leaf[tensor.layer]
        )
    return found


def test_log_probs(vargpt):
    golden, schedule = goldens.arrays(SCORES), vargpt.schedule("sq")
    start, pad = (getattr(vargpt.backbone.config.tokens, f"draw_{n}") for n in ("start", "pad"))
    everything = golden["in.prompt_and_image_ids"]
    prompt = everything[:, : int((everything[0] == start).argmax()) + 1]
    score = jax.jit(lambda params, bits: total_log_prob(vargpt, params, prompt, bits))
    forward = jax.jit(
        lambda params, batch, bits: training_forward(
            vargpt.backbone.model(params), batch, bits, schedule, pad_multiple()
        )
    )
    batch = jax.tree.map(jnp.asarray, training_batch(everything, everything >= 0, pad))
    computed = {}
    for prefix, key in (("", "in.bits"), ("random_", "in.random_bits")):
        bits = jnp.asarray(golden[key], jnp.int32)
        log_probs, logits = score(vargpt.params, bits)
        text, image = mean_losses(forward(vargpt.params, batch, bits), batch, bits)
        computed |= {
            f"out.{prefix}x_BLC_wo_prefix": dequantize(bits, schedule)[0],
            f"out.{prefix}gen_logits": logits.reshape(1, schedule.length, -1),
            f"out.{prefix}total_logprob": log_probs.sum((1, 2)),
            f"out.{prefix}loss": text + IMAGE_WEIGHT * image,
        }
        if not prefix:
            sums = [log_probs[0, schedule.part(n)].sum() for n in range(len(schedule.grids))]
            computed["out.bit_logprobs"] = log_probs
            computed["out.scale_logprobs"] = np.array(sums)
            computed["out.total_logprob_bitmean"] = log_probs.sum((1, 2)) / bits.shape[-1]
    computed |= surrogate(vargpt, golden, forward, pad)
    bits = jnp.asarray(golden["in.bits"], jnp.int32)
    total = lambda base: total_log_prob(vargpt, Params(base), prompt, bits)[0].sum()
    gradient = official(vargpt, jax.jit(jax.grad(total))(vargpt.params.base))
    compare_gradients(golden, gradient, "out.grad_total_logprob.")
    rest = [key for key in golden if key.startswith(("in.", "out.grad_"))]
    goldens.check_all(SCORES, computed, score_tolerance, rest)


def score_tolerance(key):
    sums, loss = "total_logprob" in key or "scale" in key, key.endswith("loss")
    return (1e-3 if sums else 1e-5 if loss else 2e-4, 0)


def pad_multiple():
    return facts()["visual_decoder"]["pad_to_multiplier"]


def surrogate(vargpt, golden, forward, pad):
    """The official trainer's number for a decoded picture."""
    everything, schedule = golden["out.asg_full_ids"], vargpt.schedule("sq")
    count = int((everything == pad).sum())
    prompt = golden["in.asg_prompt_ids"]
    start, end = (getattr(vargpt.backbone.config.tokens, f"draw_{n}") for n in ("start", "end"))
    ids = np.concatenate([prompt, [[start, *[pad] * count, end]]], axis=1)
    pixels = jnp.asarray(official_pixels(golden["in.asg_image_u8_rgb_hwc"]) * 0.5 + 0.5)
    bits = vargpt.backbone.encode_target(vargpt.params, pixels, None).values
    batch = jax.tree.map(jnp.asarray, training_batch(ids, ids >= 0, pad))
    found = forward(vargpt.params, batch, bits)
    return {
        "out.asg_full_ids": ids,
        "out.asg_reencoded_bits": bits,
        "out.asg_seq_logprob": surrogate_log_probs(found, batch, bits),
        "out.asg_gen_logits": found.logits.reshape(1, schedule.length, -1),
    }


def compare_gradients(golden, gradient, prefix):
    keys = [key for key in golden if key.startswith(prefix)]
    assert keys
    for key in keys:
        name, _, row = key.removeprefix(prefix).partition("[")
        value = gradient[name][-1] if row else gradient[name]
        error = np.abs(value - golden[key]).max()
        assert error <= 1e-3 * np.abs(golden[key]).max(), key
        print(f"{key}: largest relative error {error / np.abs(golden[key]).max():.1e}")
