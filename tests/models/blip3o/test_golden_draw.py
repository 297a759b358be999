"""Drawing against the official numbers: schedules, velocities, samples, targets, pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from asg_jax.backbone import Sampler
from asg_jax.models.blip3o import decoding, drawing
from asg_jax.models.blip3o.dit import CaptionContext, grid_angles
from asg_jax.models.blip3o.eva import square
from asg_jax.models.blip3o.model import Blip3o, told_times
from asg_jax.models.blip3o.training import training_times
from asg_jax.ops.flow import time_grid
from tests import goldens
from tests.models.blip3o.golden import facts

DIT, SAMPLING = "blip3o/dit.safetensors", "blip3o/dit_sampling.safetensors"
DECODER, PIPELINE = "blip3o/decoder.safetensors", "blip3o/pipeline.safetensors"
single_call = lambda key: (5e-5, 1e-4)
first = lambda x: np.moveaxis(np.asarray(x), -1, 1)  # channels
last = lambda x: jnp.asarray(np.moveaxis(x, 1, -1))


def sampler_of(model: Blip3o, steps: int, guidance: float) -> Sampler:
    """The official sampler of features."""
    side = model.config.dit.side
    return Sampler((side, side), steps, 1.0, guidance, renorm_min=1.0, interval=(0.0, 1.0))


def test_schedules(blip3o):
    close = lambda got, want: np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-7)
    betas = blip3o.backbone.config.decoding.betas
    for name, table in goldens.facts("blip3o/schedules.json").items():
        if name.startswith("flow_matching"):
            grid = time_grid(len(table["timesteps"]), 1.0)
            close(grid, table["sigmas"])
            close(grid[:-1] * 1000, table["timesteps"])
            assert told_times(jnp.asarray(grid[:-1])).tolist() == table["timesteps_fed_to_dit"]
        elif name == "training_flow_matching":
            count = table["n"]
            t = training_times((jnp.arange(count) + 0.5) / count)
            for end, part in (("first", slice(3)), ("last", slice(-3, None))):
                close(t[part], table[f"{end}_sigmas"])
                assert told_times(t[part]).tolist() == table[f"{end}_timesteps"]
        elif name != "euler_config":
            found = decoding.euler_table(len(table["timesteps"]), betas)
            close(found.sigmas, table["sigmas"])
            assert found.timesteps.tolist() == table["timesteps"]
            close(found.start, table["init_noise_sigma"])


def test_told_times_are_the_truncated_official_ones():
    counts = range(1, 101)
    official = np.concatenate([np.linspace(1, 1 / n, n).astype(np.float32) for n in counts])
    ours = np.concatenate([time_grid(n, 1.0)[:-1] for n in counts])
    wanted = np.trunc(official * np.float32(1000))
    np.testing.assert_array_equal(told_times(jnp.asarray(ours)), wanted)


def test_training_times_are_told_exactly():
    k = np.arange(1, 1001)
    assert told_times(jnp.asarray(k / 1000, jnp.float32)).tolist() == k.tolist()


def test_dit(blip3o):
    golden, model = goldens.arrays(DIT), blip3o.network()
    x, z = blip3o.tokens(golden["x"])[:1, None], jnp.asarray(golden["z"])
    computed = {}

    @jax.jit
    def both(timestep):
        main, null = model.dit(x, timestep, model.dit.caption(z[1:]), model.null_caption())
        return jnp.concatenate([null, main])[:, 0]

    for n, timestep in enumerate(golden["timesteps"]):
        computed[f"velocity_t{n}"] = blip3o.latents(both(jnp.full((1, 1), timestep)))
    rows = blip3o.tokens(golden["batch.x"])[:, None]
    times = jnp.asarray(golden["batch.timesteps"])[:, None]
    found = jax.jit(lambda z: model.dit(rows, times, model.dit.caption(z)))(golden["batch.z"])
    computed["batch.velocity"] = blip3o.latents(found[0][:, 0])
    computed |= dit_parts(blip3o, golden)
    inputs = ("x", "z", "timesteps", "batch.x", "batch.z", "batch.timesteps")
    goldens.check_all(DIT, computed, single_call, inputs)


def dit_parts(blip3o, golden):
    """What stands between the input and the output, at the second time."""
    dit = blip3o.network().dit
    x, z = blip3o.tokens(golden["x"])[:, None], jnp.asarray(golden["z"])
    caption, projected = dit.caption(z), dit.caption_projection(z)
    time = dit.time_embedder(jnp.full((2, 1), golden["timesteps"][1]))
    embedding, angles = (
        time + caption.pooled[:, None],
        grid_angles(dit.config.side, dit.config.head_width),
    )
    rows = dit.patch_embedder(x)
    found = {
        "caption_projection": projected,
        "temb": embedding[:, 0],
        "patch_embed": rows[:, 0],
        "rope_cis_real": jnp.cos(angles)[None],
        "rope_cis_imag": jnp.sin(angles)[None],
        "norm_out": dit(x, jnp.full((2, 1), golden["timesteps"][1]), caption)[0][:, 0],
    }
    for n in range(dit.config.layers):
        layer = layer_of(dit, n)
        context = caption.keys[n], caption.values[n]
        if n == 0:
            parts = jnp.split(layer.modulation(jax.nn.silu(embedding)), 4, axis=-1)
            scale, found["layer0.gate_msa"], found["layer0.scale_mlp"], found["layer0.gate_mlp"] = (
                part[:, 0] for part in parts
            )
            h = layer.norm1(rows) * (1 + scale[:, None, None])
            found["layer0.adaln_x"] = h[:, 0]
            found["layer0.attn1_heads"] = layer.attention(h, angles)[:, 0]
            found["layer0.attn2_heads"] = layer.cross(h, angles, context, None)[:, 0]
        rows = layer(rows, embedding, angles, context, None)
        found[f"layer{n}"] = rows[:, 0]
    return {f"debug_t1.{name}": value for name, value in found.items()}


def layer_of(dit, n):
    """One layer of a stack."""
    graph, state = nnx.split(dit.layers)
    return nnx.merge(graph, jax.tree.map(lambda x: x[n], state))


def test_sampling(blip3o):
    golden, model = goldens.arrays(SAMPLING), blip3o.network()
    computed = {}

    @jax.jit
    def captions(z):
        return model.dit.caption(z), model.null_caption()

    def draw(z, noise, steps, guidance):
        sampler = sampler_of(model, steps, guidance)
        x = blip3o.tokens(noise)[:, None]
        state = drawing.State(
            drawing.Features(x, x), jax.random.split(jax.random.key(0), x.shape[:2])
        )
        given = captions(jnp.asarray(z))
        advance = jax.jit(lambda state, i: drawing.step(model, given, state, i, sampler))
        steps_of = []
        for i in range(steps):
            state = advance(state, jnp.asarray(i))
            steps_of.append(blip3o.latents(state.inner.x[:, 0]))
        return np.stack(steps_of)

    for key in golden:
        if "sample" not in key:
            continue
        prefix, name = key.rsplit("sample", 1)
        steps, guidance = name.split("_g")
        given = golden[f"{prefix}z"], golden[f"{prefix}initial_noise"]
        trajectory = draw(*given, int(steps), float(guidance))
        computed[key] = trajectory[-1]
        computed[f"{prefix}trajectory{name}"] = trajectory
    inputs = [key for key in golden if key.endswith(("initial_noise", ".z")) or key == "z"]
    goldens.check_all(SAMPLING, computed, lambda key: (1e-4, 1e-4), inputs)


def test_eva(blip3o):
    file, golden = "blip3o/eva.safetensors", goldens.arrays("blip3o/preprocess.safetensors")
    eva, config = blip3o.network().eva, blip3o.backbone.config
    raw = [golden[key] for key in sorted(golden) if key.startswith("eva") and "raw" in key]
    targets = [
        blip3o.jit("encode_target")(jnp.asarray(picture[None] / np.float32(255)), None)
        for picture in raw
    ]
    assert all(target.grid == (config.dit.side, config.dit.side) for target in targets)
    squares = [square(jnp.asarray(picture[None].astype(int)), config.eva.side) for picture in raw]
    rows = eva.embed(jnp.concatenate(squares) / 255)
    computed = {"pooled": blip3o.latents(jnp.concatenate([t.values for t in targets]))}
    for n in range(config.eva.layers):
        rows = layer_of(eva, n)(rows)
        computed[f"debug.block{n}"] = rows
    computed["tokens"] = rows[:, 1:]
    np.testing.assert_allclose(eva(jnp.concatenate(squares) / 255), rows[:, 1:], atol=1e-5)
    goldens.check_all(file, computed, single_call)


def test_decoder(blip3o):
    golden, model = goldens.arrays(DECODER), blip3o.network()
    features = jnp.asarray(golden["encoder_hidden_states"])
    sizes = jnp.asarray(golden["time_ids"].reshape(len(features), -1), jnp.float32)
    guide, latents = jax.jit(model.unet.guide)(features, sizes), last(golden["sample"])
    # The parts are compiled with the whole, which computes most of them anyway.
    predict = jax.jit(
        lambda time: (
            model.unet(latents, time, guide),
            unet_parts(model.unet, time, latents, guide),
        )
    )
    computed = {}
    for n, timestep in enumerate(golden["timesteps"]):
        predicted, parts = predict(jnp.asarray(timestep))
        computed[f"eps_t{n}"] = first(predicted)
        spatial = lambda x: first(x) if x.ndim == 4 else x
        computed |= {f"debug_t{n}.{name}": spatial(value) for name, value in parts.items()}
    computed["text_embeds"] = np.asarray(features.mean(1))
    decoded = jax.jit(model.vae.decode)(last(golden["vae.latents"]))
    computed["vae.decoded"] = first(decoded)
    inputs = ("encoder_hidden_states", "sample", "time_ids", "timesteps", "vae.latents")
    goldens.check_all(DECODER, computed, single_call, inputs)


def unet_parts(unet, timestep, latents, guide):
    """Embeddings, and the states of every level."""
    time = unet.time(timestep[None])
    embedding, contexts = time + guide.embedding, iter(guide.contexts)
    skips = [unet.conv_in(latents)]
    found = {
        "add_embedding": guide.embedding,
        "time_embedding": jnp.broadcast_to(time, guide.embedding.shape),
        "conv_in": skips[0],
    }
    for n, level in enumerate(unet.down):
        skips += level.down(skips[-1], embedding, contexts)
        found[f"down{n}"] = skips[-1]
    x = unet.mid.through(skips[-1], embedding, contexts)
    found["mid"] = x
    for n, level in enumerate(unet.up):
        x = level.up(x, skips, embedding, contexts)
        found[f"up{n}"] = x
    return found


CASES = {"asg_raw_prompt": 2.0, "templated": 3.0, "no_guidance": 1.0}  # guidance of the UNet


@pytest.mark.slow
def test_pipeline(blip3o):
    """Text to pixels: queries, 30 steps of features, the UNet, the autoencoder."""
    golden, texts = goldens.arrays(PIPELINE), facts()["texts"]
    model, computed = blip3o.network(), {}
    null = jax.jit(model.null_caption)()
    prompt = lambda text: blip3o.drawing(np.frombuffer(text.encode(), np.uint8).astype(int))
    noise = lambda case, n: blip3o.tokens(golden[f"{case}.dit_noise{n}"])
    blank = jax.jit(lambda prompt, noise: drawing.blank_features(model, prompt, null, noise))(
        prompt(texts["blank"]), noise("asg_raw_prompt", 1)[:, None]
    )
    keys, sampler = jax.random.split(jax.random.key(0), (1, 1)), sampler_of(model, 30, 3.0)
    draw = jax.jit(
        lambda prompt, noise: drawing.draw(
            model, (model.captions(prompt), null), noise, keys, sampler
        )
    )
    diffuse = jax.jit(lambda *given: decoding.diffuse(model, *given))
    finish = jax.jit(lambda latents: decoding.finish(model, latents))
    queries = goldens.arrays("blip3o/queries.safetensors")
    for case, guidance in CASES.items():
        templated = blip3o.drawing(queries["templated.input_ids"][0])
        given = templated if case == "templated" else prompt(texts["caption"])
        tokens = draw(given, noise(case, 0)[:, None])[:, 0]
        embeds = [tokens, blank] if guidance > 1 else [tokens]
        computed[f"{case}.clip_embeds"] = jnp.concatenate(embeds)
        noised = last(golden[f"{case}.unet_noise"])
        latents = diffuse(tokens, blank if guidance > 1 else None, noised, guidance)
        pixels = finish(latents)
        computed[f"{case}.final_latents"] = first(latents)
        computed[f"{case}.image_float_hwc"] = pixels
        levels = golden[f"{case}.image_uint8_hwc"]
        assert np.abs(np.round(np.asarray(pixels[0]) * 255) - levels).max() <= 1
    tolerances = {
        "clip_embeds": (1e-4, 1e-4),
        "final_latents": (2e-3, 1e-4),
        "image_float_hwc": (1e-3, 1e-4),
    }
    inputs = [key for key in golden if key.rsplit(".", 1)[1] not in tolerances]
    goldens.check_all(PIPELINE, computed, lambda key: tolerances[key.rsplit(".", 1)[1]], inputs)


def test_one_null_token_stands_for_all(blip3o):
    """Without a prompt all tokens are equal, and the cross-attention gives their value."""
    golden, model = goldens.arrays(DIT), blip3o.network()
    x, z = blip3o.tokens(golden["x"])[:1, None], jnp.asarray(golden["z"])
    time = jnp.full((1, 1), 500.0)
    compare = lambda z: (
        model.dit(x, time, model.dit.caption(jnp.zeros_like(z)))[0],
        model.dit(x, time, model.dit.caption(z), model.null_caption())[1],
    )
    whole, one = jax.jit(compare)(z[1:])
    assert isinstance(model.null_caption(), CaptionContext)
    np.testing.assert_allclose(one, whole, rtol=1e-5, atol=1e-5)
