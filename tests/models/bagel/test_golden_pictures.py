"""Resizing, position ids, the vision tower and the autoencoder against the official numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image as PIL

from asg_jax.models.bagel.config import Resize
from asg_jax.models.bagel.processor import resize, resized
from asg_jax.models.bagel.vision import VisionTower, grid_positions
from tests import goldens
from tests.models.bagel.conftest import image_of


def nchw(x):
    return np.asarray(x).transpose(0, 3, 1, 2)


def nhwc(x):
    return jnp.asarray(x.transpose(0, 2, 3, 1))


def test_sizes():
    for case in goldens.facts("bagel/preprocess_sizes.json"):
        rule = Resize(case["max_size"], case["min_size"], case["stride"], case["max_pixels"])
        width, height = case["input_wh"]
        size = resized(width, height, rule, case["img_num"])
        assert list(size) == case["output_wh"], case


def test_position_ids():
    for case in goldens.facts("bagel/position_ids.json"):
        grid = case["img_h"] // case["patch_size"], case["img_w"] // case["patch_size"]
        side, interpolate = case["max_num_patches_per_side"], case["mode"] == "interpolate"
        ids = grid_positions(jnp.array([grid]), grid[0] * grid[1], side, interpolate)[0]
        assert ids.tolist() == case["ids"], case


def test_preprocess(bagel):
    config, computed = bagel.backbone.config, {}
    for key, pixels in goldens.arrays("bagel/preprocess.safetensors").items():
        if not key.endswith(".uint8_hwc"):
            continue
        name = key.removesuffix(".uint8_hwc")
        picture = PIL.fromarray(pixels)
        vit, vae = (resize(picture, rule) for rule in (config.vision_resize, config.latent_resize))
        image = bagel.processor.image([picture])
        computed[key] = pixels
        computed[f"{name}.vit_resized_uint8_hwc"] = np.asarray(vit)
        computed[f"{name}.vae_resized_uint8_hwc"] = np.asarray(
            resize(picture, config.latent_resize)
        )
        computed[f"{name}.vit_chw"] = _pixels(image, config.vision.patch)
    goldens.check_all("bagel/preprocess.safetensors", computed, lambda key: (1e-6, 0))


def _pixels(image, side):
    """The normalised CHW picture that the patches of an image were cut from."""
    height, width = image.grid[0]
    rows = image.patches[0, : height * width].reshape(height, width, side, side, 3)
    return rows.transpose(4, 0, 2, 1, 3).reshape(3, height * side, width * side)


def test_vision(bagel):
    file, config = "bagel/vit.safetensors", bagel.backbone.config
    names = sorted({key.split(".")[0] for key in goldens.arrays(file)})
    pictures = [goldens.arrays(file)[f"{name}.chw"] for name in names]
    image = image_of(pictures, config.vision.patch)
    network = bagel.network()
    rows = {
        "llm_in": bagel.jit("encode_image")(image),
        "connector_out": network.connector(network.vision(image)),
        "vit_out": network.vision(image),
        "embeddings_out": network.vision.embed(image),
        "patches": image.patches,
        "position_ids": network.vision.positions(image),
    }
    for n in range(config.vision.layers):
        rows[f"layer{n}_out"] = truncated(network.vision, n + 1).run(image)
    computed = {f"{name}.chw": picture for name, picture in zip(names, pictures, strict=True)}
    for k, name in enumerate(names):
        count = int(image.grid[k].prod())
        computed |= {f"{name}.{key}": value[k, :count] for key, value in rows.items()}
    goldens.check_all(file, computed, lambda key: (3e-5, 0))


def truncated(module, layers: int):
    """A module that scans over `layers`, with only the first few of them."""
    graph, state = nnx.split(module)
    pure = nnx.to_pure_dict(state)
    pure["layers"] = jax.tree.map(lambda leaf: leaf[:layers], pure["layers"])
    return nnx.merge(graph, pure)


def test_truncated_keeps_the_tower(bagel):
    assert isinstance(truncated(bagel.network().vision, 1), VisionTower)


def test_vae(bagel):
    file, computed = "bagel/vae.safetensors", {}
    vae, golden = bagel.network().vae, goldens.arrays("bagel/vae.safetensors")
    config = vae.config
    encode, decode = jax.jit(vae.encoder.__call__), jax.jit(vae.decode)
    for case in sorted({key.split(".")[0] for key in golden}):
        get = {
            key.split(".")[1]: value for key, value in golden.items() if key.startswith(f"{case}.")
        }
        moments = encode(nhwc(get["pixels"]))
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        sample = mean + jnp.exp(0.5 * log_variance) * nhwc(get["eps"])
        latent = vae.encode(nhwc(get["pixels"]), None)
        mine = {
            **{key: get[key] for key in ("pixels", "eps", "decode_in")},
            "encoder_moments": nchw(moments),
            "latent_mean_scaled": nchw(latent),
            "latent_sampled_scaled": nchw(config.scale * (sample - config.shift)),
            "decode_out": nchw(decode(nhwc(get["decode_in"]))),
            "reconstruction": nchw(decode(latent)),
        }
        computed |= {f"{case}.{key}": value for key, value in mine.items()}
    goldens.check_all(file, computed, lambda key: (3e-5, 0))


def test_encoding_samples_the_posterior(bagel):
    """With a key, the mean over many draws is the deterministic encode and the spread its std."""
    pixels = nhwc(goldens.arrays("bagel/vae.safetensors")["case0.pixels"])
    vae = bagel.network().vae
    mean, log_variance = jnp.split(vae.encoder(pixels), 2, axis=-1)
    keys = jax.random.split(jax.random.key(0), 8)
    draws = jax.jit(lambda keys: jax.lax.map(lambda key: vae.encode(pixels, key), keys))(keys)
    scaled = (draws / vae.config.scale + vae.config.shift - mean) / jnp.exp(0.5 * log_variance)
    count = scaled.size
    assert abs(float(scaled.mean())) < 5 / count**0.5
    assert abs(float(scaled.std()) - 1) < 5 / (2 * count) ** 0.5
