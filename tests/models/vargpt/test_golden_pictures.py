"""The vision tower, the tokenizer and its bits against the official numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.models.vargpt.quantizer import dequantize, grow, quantize, shrink
from tests import goldens
from tests.models.qwen import image_of


def nchw(x):
    return np.asarray(x).transpose(0, 3, 1, 2)


def nhwc(x):
    return jnp.asarray(x.transpose(0, 2, 3, 1))


def pictures(*names):
    golden = goldens.arrays("vargpt/01_preprocess.safetensors")
    patches = [golden[f"out.pixel_values_{name}"] for name in names]
    return image_of(patches, [golden[f"out.grid_{name}"][0, 1:] for name in names])


def test_vision(vargpt):
    tower, image = vargpt.network().vision, pictures("a", "b")
    counts = [int(grid.prod()) for grid in np.asarray(image.grid)]
    merged = tower.config.merge**2
    rows = vargpt.jit("encode_image")(image)
    features = [rows[n, : count // merged] for n, count in enumerate(counts)]
    computed = {
        "in.grid_a": goldens.arrays("vargpt/01_preprocess.safetensors")["out.grid_a"],
        "in.grid_b": goldens.arrays("vargpt/01_preprocess.safetensors")["out.grid_b"],
        "out.features_a": features[0],
        "out.features_b": features[1],
        "out.features_ab": np.concatenate(features),
        "out.patch_embed_a": tower.embed(image)[0, : counts[0]],
        "out.rotary_freqs_a": tower.angles(image)[0, : counts[0]],
    }
    goldens.check_all("vargpt/02_vision.safetensors", computed, lambda key: (2e-5, 0))


def split(bits, schedule, batch):
    """Bits of every scale as (B, 1, h, w, d)."""
    return [
        np.asarray(bits[:, schedule.part(n)]).reshape(batch, 1, *grid, -1).astype(np.uint8)
        for n, grid in enumerate(schedule.grids)
    ]


def partial_sum(bits, schedule, scales):
    """Codes of the first scales, summed."""
    total = jnp.zeros((len(bits), *schedule.grid, bits.shape[-1]))
    for n, grid in enumerate(schedule.grids[:scales]):
        total = grow(total, bits[:, schedule.part(n)], grid)
    return total


@pytest.mark.parametrize("tag", ["sq", "ns"])
def test_vae(vargpt, tag):
    file = "vargpt/04_vae.safetensors"
    golden, schedule, vae = goldens.arrays(file), vargpt.schedule(tag), vargpt.network().vae
    pixels = nhwc(golden[f"in.image_{tag}"])
    features = jax.jit(vae.encoder.__call__)(pixels)
    bits = quantize(features, schedule)
    total = dequantize(bits, schedule)[1]
    recon = nchw(jax.jit(vae.decode)(total))
    given = np.concatenate(
        [
            golden[f"out.bits_{tag}_{n}"].reshape(len(pixels), -1, bits.shape[-1])
            for n in range(len(schedule.grids))
        ],
        axis=1,
    )
    from_bits = dequantize(jnp.asarray(given, jnp.int32), schedule)[1]
    computed = {
        f"in.image_{tag}": golden[f"in.image_{tag}"],
        f"out.raw_features_{tag}": nchw(features),
        f"out.quantized_{tag}": nchw(total),
        f"out.recon_{tag}": recon,
        f"out.summed_codes_{tag}": nchw(from_bits)[:, :, None],
        f"out.recon_from_bits_{tag}": nchw(jax.jit(vae.decode)(from_bits)),
    }
    for n, part in enumerate(split(bits, schedule, len(pixels))):
        computed[f"out.bits_{tag}_{n}"] = part
    for n, grid in enumerate(schedule.grids[1:]):
        pooled = nchw(shrink(partial_sum(bits, schedule, n + 1), grid))
        computed[f"out.var_input_area_{tag}_{n}"] = pooled[:, :, None]
    other = [key for key in golden if f"_{tag}" not in key]
    goldens.check_all(file, computed, lambda key: (2e-5, 0), other)


@pytest.mark.parametrize("tag", ["sq", "ns"])
def test_self_correction(vargpt, tag):
    file = "vargpt/05_bsc.safetensors"
    golden, schedule, vae = goldens.arrays(file), vargpt.schedule(tag), vargpt.network().vae
    pixels = nhwc(golden[f"in.image_{tag}"])
    strength = golden[f"in.strength_percent_{tag}"] * 0.01
    uniform = [golden[f"in.uniform_{tag}_{n}"] for n in range(len(schedule.grids))]
    flips = [
        (u < s).reshape(len(pixels), -1, u.shape[-1])
        for u, s in zip(uniform, strength, strict=True)
    ]
    flips = jnp.asarray(np.concatenate(flips, axis=1))
    features = jax.jit(vae.encoder.__call__)(pixels)
    clean, noisy = quantize(features, schedule), quantize(features, schedule, flips)
    assert flips.any() and (clean != noisy).any()
    computed = {
        f"out.x_clean_{tag}": dequantize(clean, schedule)[0],
        f"out.labels_clean_{tag}": clean,
        f"out.x_noisy_{tag}": dequantize(noisy ^ flips, schedule)[0],
        f"out.labels_noisy_{tag}": noisy,
    }
    other = [key for key in golden if key not in computed]
    goldens.check_all(file, computed, lambda key: (2e-5, 0), other)
