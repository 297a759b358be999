"""The training forward against the official numbers: every stage, losses and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from asg_jax.backbone import Params
from asg_jax.models.layers.attention import Block
from asg_jax.models.vargpt.model import scale_causal
from asg_jax.models.vargpt.quantizer import dequantize
from asg_jax.models.vargpt.scales import Schedule
from asg_jax.models.vargpt.training import (
    IMAGE_WEIGHT,
    mean_losses,
    training_batch,
    training_forward,
)
from asg_jax.ops.bits import bit_log_probs
from tests import goldens
from tests.models.vargpt.test_golden_draw import compare_gradients, official, pad_multiple
from tests.models.vargpt.test_golden_text import prompt_of

FORWARD = "vargpt/06_teacher_forcing.safetensors"
LOSSES = "vargpt/10_losses.safetensors"


def run_forward(vargpt, tag, batch, bits, dropped=None):
    """The compiled training forward."""
    schedule = vargpt.schedule(tag)
    run = jax.jit(
        lambda params, batch, bits, dropped: training_forward(
            vargpt.backbone.model(params), batch, bits, schedule, pad_multiple(), dropped
        )
    )
    dropped = jnp.zeros(bits.shape[0], bool) if dropped is None else jnp.asarray(dropped)
    return run(vargpt.params, batch, bits, dropped)


def encoded(vargpt, pixels):
    pixels = jnp.asarray(pixels.transpose(0, 2, 3, 1) * 0.5 + 0.5)
    return vargpt.jit("encode_target")(pixels, None).values


def batch_of(vargpt, ids, mask):
    pad = vargpt.backbone.config.tokens.draw_pad
    return jax.tree.map(jnp.asarray, training_batch(ids, mask.astype(bool), pad))


def results(vargpt, case, tag, batch, bits, labels, dropped=None):
    """What the file holds of every case."""
    found = run_forward(vargpt, tag, batch, bits, dropped)
    text, image = mean_losses(found, batch, labels)
    network = vargpt.network()
    dropped = np.zeros(len(bits), bool) if dropped is None else np.array(dropped)
    rows = network.from_language(found.hidden[:, : batch.context.shape[1]])
    computed = {
        "gen_logits": found.logits.reshape(*found.logits.shape[:2], -1),
        "labels": labels,
        "loss": text + IMAGE_WEIGHT * image,
        "cond_BD": network.decoder.modulation(jnp.asarray(dropped)).vector,
        "ca_kv": rows[batch.context],
        "ca_kv_cu_seqlens": np.cumsum([0, *np.asarray(batch.context.sum(1))]),
    }
    return found, {f"out.{key}_{case}": value for key, value in computed.items()}


def stages(vargpt, golden, batch, bits, found):
    """Everything between the bits and the logits, for the square pictures."""
    network, schedule = vargpt.network(), vargpt.schedule("sq")
    decoder, count = network.decoder, len(bits)
    modulation = decoder.modulation(jnp.zeros(count, bool))
    tokens = network.sequence(modulation.first, bits[:, None], schedule)[:, 0]
    tokens = jnp.pad(tokens, ((0, 0), (0, -schedule.length % pad_multiple()), (0, 0)))
    rows = batch.picture[:, None] + jnp.arange(tokens.shape[1])
    drawn = jnp.take_along_axis(found.hidden, rows[..., None], axis=1)
    computed = {
        "cond_BD_gss": modulation.blocks[:, None],
        "x_BLC_padded": tokens,
        "llm_image_embeds": network.to_language(tokens).reshape(-1, found.hidden.shape[-1]),
        "llm_hidden": found.hidden,
        "text_logits": found.hidden @ vargpt.backbone.unembedding(vargpt.params).T,
    }
    length, mask = schedule.length, jnp.asarray(scale_causal(schedule))[None, None]
    x = network.decoder_tokens(drawn[:, None, :length], schedule.levels)
    # Padding rows have no level embedding.
    rows = jnp.concatenate([x[:, 0], network.from_language(drawn[:, length:])], axis=1)
    computed["decoder_in"] = rows.reshape(-1, rows.shape[-1])
    context = network.from_language(found.hidden[:, : batch.context.shape[1]])
    keys, values = decoder.context(context)
    for n in range(decoder.config.layers):
        short = shortened(decoder, n + 1)
        cross = Block(keys[: n + 1], values[: n + 1], batch.context[:, None, None])
        out, _ = short.run(x, modulation, network.angles(schedule), cross, mask)
        # Nothing reads the padding rows.
        padding = golden[f"out.decoder_block_{n}_sq"][:, length:]
        computed[f"decoder_block_{n}"] = np.concatenate([out[:, 0], padding], axis=1)
    return {f"out.{key}_sq": value for key, value in computed.items()}


def shortened(decoder, count):
    """A decoder with only the first few of its blocks."""
    graph, state = nnx.split(decoder)
    pure = nnx.to_pure_dict(state)
    pure["blocks"] = jax.tree.map(lambda leaf: leaf[:count], pure["blocks"])
    return nnx.merge(graph, pure)


def rope_grid(vargpt, tag):
    """cos and sin of the positions of all scales, zeros after them."""
    schedule = vargpt.schedule(tag)
    whole = next(t for t in vargpt.backbone.config.templates if schedule.grid in t)
    angles = vargpt.network().angles(Schedule(whole, whole[-1]))
    rows = ((0, -len(angles) % pad_multiple()), (0, 0))
    return np.stack([np.pad(np.cos(angles), rows), np.pad(np.sin(angles), rows)])


def test_forward(vargpt):
    golden = goldens.arrays(FORWARD)
    ids, mask = golden["in.input_ids_sq"], golden["in.attention_mask_sq"]
    bits, square = encoded(vargpt, golden["in.image_sq"]), batch_of(vargpt, ids, mask)
    found, computed = results(vargpt, "sq", "sq", square, bits, bits)
    computed |= stages(vargpt, golden, square, bits, found)
    computed["in.x_BLC_wo_prefix_sq"] = dequantize(bits, vargpt.schedule("sq"))[0]
    case = "sq_conddrop0"
    computed |= results(vargpt, case, "sq", square, bits, bits, [True, False])[1]
    computed |= noisy(vargpt, square)

    other = batch_of(vargpt, golden["in.input_ids_ns"], golden["in.attention_mask_ns"])
    bits = encoded(vargpt, golden["in.image_ns"])
    computed |= results(vargpt, "ns", "ns", other, bits, bits)[1]
    computed["in.x_BLC_wo_prefix_ns"] = dequantize(bits, vargpt.schedule("ns"))[0]

    pads = golden["out.text_logits_autopad"].shape[1] - golden["in.input_ids_autopad"].shape[1]
    padded = np.pad(
        golden["in.input_ids_autopad"],
        ((0, 0), (0, pads)),
        constant_values=vargpt.backbone.config.tokens.draw_pad,
    )
    bits = encoded(vargpt, golden["in.image_sq"][:1])
    batch = batch_of(vargpt, padded, np.ones_like(padded))
    found, more = results(vargpt, "autopad", "sq", batch, bits, bits)
    computed |= more
    unembedding = vargpt.backbone.unembedding(vargpt.params)
    computed["out.text_logits_autopad"] = found.hidden @ unembedding.T
    for tag in ("sq", "ns"):
        computed[f"out.rope_grid_{tag}"] = rope_grid(vargpt, tag)
    exempt = [key for key in golden if key.startswith("in.") and key not in computed]
    tolerance = lambda key: (1e-5, 0) if ".loss" in key else (2e-4, 0)
    goldens.check_all(FORWARD, computed, tolerance, [*exempt, "out.gen_logits_sq_ca_bf16"])


def noisy(vargpt, batch):
    """With flipped bits in the input."""
    given, schedule = goldens.arrays("vargpt/05_bsc.safetensors"), vargpt.schedule("sq")
    strength = given["in.strength_percent_sq"] * 0.01
    uniform = [given[f"in.uniform_sq_{n}"] for n in range(len(schedule.grids))]
    flips = [
        (u < s).reshape(len(u), -1, u.shape[-1]) for u, s in zip(uniform, strength, strict=True)
    ]
    labels = jnp.asarray(given["out.labels_noisy_sq"], jnp.int32)
    bits = labels ^ jnp.asarray(np.concatenate(flips, axis=1))
    computed = results(vargpt, "sq_noisy", "sq", batch, bits, labels)[1]
    return {key: computed[key] for key in ("out.gen_logits_sq_noisy", "out.loss_sq_noisy")}


@pytest.fixture(scope="module")
def pictures(vargpt):
    """The batch of the losses, and its bits."""
    golden = goldens.arrays(LOSSES)
    batch = batch_of(vargpt, golden["in.input_ids"], golden["in.attention_mask"])
    return batch, encoded(vargpt, golden["in.image"])


@pytest.fixture(scope="module")
def gradients(vargpt, pictures):
    """Gradient of the total loss for every official tensor that the network uses."""
    batch, bits = pictures
    schedule = vargpt.schedule("sq")

    def total(base):
        model = vargpt.backbone.model(Params(base))
        forward = training_forward(model, batch, bits, schedule, pad_multiple())
        text, image = mean_losses(forward, batch, bits)
        return text + IMAGE_WEIGHT * image

    return official(vargpt, jax.jit(jax.grad(total))(vargpt.params.base))


def test_losses(vargpt, pictures, gradients):
    golden, (batch, bits) = goldens.arrays(LOSSES), pictures
    found = run_forward(vargpt, "sq", batch, bits)
    text, image = mean_losses(found, batch, bits)
    ids, pad = golden["in.input_ids"], vargpt.backbone.config.tokens.draw_pad
    computed = {
        "out.text_labels": np.where(ids == pad, -100, ids),
        "out.text_loss": text,
        "out.image_loss": image,
        "out.total_loss": text + IMAGE_WEIGHT * image,
        "out.unreduced_text": found.text.sum(1) / (ids.shape[1] - 1),
        "out.unreduced_image": -bit_log_probs(found.logits, bits).mean((1, 2)),
        "out.und_loss": understanding_loss(vargpt, golden),
    }
    assert int(batch.labelled.sum()) == int((computed["out.text_labels"][:, 1:] >= 0).sum())
    compare_gradients(golden, gradients, "out.grad.")
    rest = [key for key in golden if key.startswith(("in.", "out.grad."))]
    goldens.check_all(LOSSES, computed, lambda key: (1e-5, 0), rest)


def understanding_loss(vargpt, golden):
    """Mean cross-entropy of the labels under plain indexes."""
    ids, labels = golden["in.und_input_ids"], golden["in.und_labels"]
    first = int((labels[0] >= 0).argmax())
    prompt = prompt_of(vargpt, ids[:, :first], ["a"], plain=True)
    answer = jnp.asarray(ids[:, None, first:], jnp.int32)
    assert (labels[:, first:] == ids[:, first:]).all()
    hidden = vargpt.jit("hidden")(prompt, answer, jnp.ones(answer.shape, bool))
    log_probs = jax.nn.log_softmax(hidden @ vargpt.backbone.unembedding(vargpt.params).T)
    return -jnp.take_along_axis(log_probs, answer[..., None], axis=-1).mean()


def test_gradient_norms(vargpt, gradients):
    norms = goldens.facts("vargpt/10_grad_norms.json")
    # PyTorch leaves the row of the padding token out.
    table = gradients["model.embed_tokens.weight"].copy()
    table[vargpt.backbone.config.tokens.pad] = 0
    gradients = gradients | {"model.embed_tokens.weight": table}
    assert set(gradients) <= set(norms)
    for name, want in norms.items():
        got = float(np.linalg.norm(gradients[name])) if name in gradients else 0.0
        if want is None or name not in gradients:
            assert got == 0 and not want, name
        elif want >= 1e-6:
            np.testing.assert_allclose(got, want, rtol=1e-3, err_msg=name)
