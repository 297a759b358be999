"""The training forward against the official numbers: layout, losses and gradients."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.models.bagel.checkpoint import tables
from asg_jax.models.bagel.layout import Latent, Text, View, training_batch
from asg_jax.models.bagel.training import mean_losses, training_losses, visible
from asg_jax.models.checkpoint import paths
from tests import goldens
from tests.models.bagel.conftest import image_of, logits
from tests.models.bagel.test_golden_draw import conversation_order

FILE = "bagel/train.safetensors"


@pytest.fixture(scope="module")
def train():
    return goldens.facts("bagel/train.json")


@pytest.fixture(scope="module")
def batch(bagel, train):
    return build(bagel, train)[0]


def pictures_of(train, golden):
    """Picture number of every image item of every sample: editing repeats its middle picture."""
    order = [int(name.split()[0].removeprefix("image")) for name in train["vae_image_order"]]
    latents, views = iter(order), iter(view_order(train, golden))
    return [
        [
            next(latents if item["type"] == "vae_image" else views)
            for item in sample["plan"]
            if item["type"] != "text"
        ]
        for sample in train["samples"]
    ]


def view_order(train, golden):
    return [n for n, name in enumerate(train["images"]) if "vit" in name]


def padded_latents(bagel, train, golden):
    """Latents of all pictures in one zero-padded batch, as the official forward encodes them."""
    order = [int(name.split()[0].removeprefix("image")) for name in train["vae_image_order"]]
    pictures = [golden[f"image{n}_chw"].transpose(1, 2, 0) for n in order]
    height, width = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
    padded = np.zeros((len(pictures), height, width, 3), np.float32)
    for row, picture in zip(padded, pictures, strict=True):
        row[: picture.shape[0], : picture.shape[1]] = picture
    return jax.jit(bagel.network().vae.encode, static_argnums=1)(jnp.asarray(padded), None)


def build(bagel, train):
    """The official batch in our layout, and its latents."""
    golden, config = goldens.arrays(FILE), bagel.backbone.config
    encoded = padded_latents(bagel, train, golden)
    latents = iter(zip(encoded, train["patchified_vae_latent_shapes"], strict=True))
    images, view_rows = view_images(train, golden, config.vision.patch)
    raw = iter(raw_times(train, golden))
    samples, tokens, times = [], [], []
    for n, sample in enumerate(train["samples"]):
        texts, views, segments = iter(sample["texts"]), 0, []
        tokens.append([])
        times.append([])
        for item in sample["plan"]:
            if item["type"] == "text":
                ids = bagel.processor.turn(next(texts))
                segments.append(Text(ids, loss=bool(item["loss"])))
            elif item["type"] == "vit_image":
                grid = tuple(images[views].grid[n].tolist())
                segments.append(View(grid, views * view_rows))
                views += 1
            else:
                latent, grid = next(latents)
                p = config.latent_patch
                cut = latent[: grid[0] * p, : grid[1] * p]
                tokens[-1].append(np.asarray(bagel.network().patchify(cut)))
                times[-1].append(next(raw))
                segments.append(Latent(tuple(grid), noisy=bool(item["loss"])))
        samples.append(segments)
    made = training_batch(samples, config, tokens, times, np.random.default_rng(0), images)
    made = jax.tree.map(jnp.asarray, made)
    noise = np.zeros(made.noise.shape, np.float32)
    noise[latent_mask(made)] = golden["packed_noise"]
    return replace(made, noise=jnp.asarray(noise)), encoded


def raw_times(train, golden):
    """The raw time of every latent picture, read off its first row."""
    rows = np.cumsum([0, *(h * w for h, w in train["patchified_vae_latent_shapes"])])
    return [float(golden["packed_timesteps"][row]) for row in rows[:-1]]


def view_images(train, golden, side):
    """Vision pictures, the i-th of every sample together; absent ones are masked."""
    views = iter(view_order(train, golden))
    numbers = [
        [next(views) for item in sample["plan"] if item["type"] == "vit_image"]
        for sample in train["samples"]
    ]
    images = []
    for k in range(max(map(len, numbers))):
        some = next(row[0] for row in numbers if row)
        present = np.array([len(row) > k for row in numbers])
        chosen = [golden[f"image{row[k] if len(row) > k else some}_chw"] for row in numbers]
        image = image_of(chosen, side)
        images.append(replace(image, mask=image.mask & present[:, None]))
    rows = max((image.patches.shape[1] for image in images), default=0)
    pad = lambda x: jnp.pad(x, [(0, 0), (0, rows - x.shape[1])] + [(0, 0)] * (x.ndim - 2))
    return tuple(replace(i, patches=pad(i.patches), mask=pad(i.mask)) for i in images), rows


def latent_mask(batch):
    """Real latent rows; their order is the packed one."""
    return np.asarray(batch.prompt.mask[:, batch.labels.shape[1] :])


def test_layout(bagel, train, batch):
    """Every index list of the packed batch."""
    golden, prompt = goldens.arrays(FILE), batch.prompt
    starts = np.cumsum([0, *train["sample_lens"]])
    text_count = batch.labels.shape[1]
    packed = {name: [] for name in ("position", "ids", "text", "vit", "vae", "ce", "mse")}
    for n, start in enumerate(starts[:-1]):
        one = jax.tree.map(lambda leaf, n=n: leaf[n : n + 1], prompt)
        order = conversation_order(one)
        assert len(order) == train["sample_lens"][n]
        view = np.asarray(prompt.slot[n] >= 0) & (np.arange(prompt.ids.shape[1]) < text_count)
        latent = np.arange(prompt.ids.shape[1]) >= text_count
        labels = np.pad(np.asarray(batch.labels[n]), (0, prompt.latents), constant_values=-1)
        packed["position"] += prompt.positions[n, order, 0].tolist()
        packed["ids"] += prompt.ids[n, order[~view[order] & ~latent[order]]].tolist()
        where = lambda flag, order=order, start=start: (
            np.flatnonzero(flag[order]) + start
        ).tolist()
        packed["text"] += where(~view & ~latent)
        packed["vit"] += where(view)
        packed["vae"] += where(latent)
        packed["ce"] += where(labels >= 0)
        packed["mse"] += where(latent & np.asarray(batch.noisy[n]))
        allowed = np.asarray(visible(batch)[n, 0])[np.ix_(order, order)]
        np.testing.assert_array_equal(allowed, golden[f"sample{n}.attend_allowed"])
    assert train["sequence_length"] == starts[-1]
    mask = latent_mask(batch)
    computed = {
        "packed_position_ids": packed["position"],
        "packed_text_ids": packed["ids"],
        "packed_text_indexes": packed["text"],
        "packed_vit_token_indexes": packed["vit"],
        "packed_vae_token_indexes": packed["vae"],
        "ce_loss_indexes": packed["ce"],
        "mse_loss_indexes": packed["mse"],
        "packed_label_ids": np.asarray(batch.labels)[np.asarray(batch.labels) >= 0],
        "packed_latent_position_ids": np.asarray(batch.place)[mask],
    }
    for key, value in computed.items():
        np.testing.assert_array_equal(value, golden[key], err_msg=key)
    assert len(packed["ce"]) == train["num_ce_tokens"]
    assert len(packed["mse"]) == train["num_mse_tokens"]


def test_view_rows(bagel, train, batch):
    """Patches and table rows of all vision pictures, in packed order."""
    golden = goldens.arrays(FILE)
    rows, ids, lengths = [], [], []
    for n in range(len(train["samples"])):
        for image in batch.images:
            count = int(image.mask[n].sum())
            if count:
                rows.append(image.patches[n, :count])
                ids.append(bagel.network().vision.positions(image)[n, :count])
                lengths.append(count)
    np.testing.assert_array_equal(lengths, golden["vit_token_seqlens"])
    np.testing.assert_array_equal(np.concatenate(ids), golden["packed_vit_position_ids"])
    np.testing.assert_allclose(np.concatenate(rows), golden["packed_vit_tokens"], atol=1e-6)


def losses_of(bagel, batch, shift):
    """Per-element losses at a timestep shift."""
    config = replace(bagel.backbone.config, timestep_shift=shift)
    backbone = replace(bagel.backbone, config=config)
    run = jax.jit(lambda params, batch: training_losses(backbone.model(params), batch))
    return run(bagel.params, batch)


def means_of(losses, batch):
    """The scalar losses that the file names."""
    ce, mse = mean_losses(losses, batch)
    reweighted, _ = mean_losses(losses, batch, reweight=True)
    return {"ce_loss": ce, "mse_loss": mse, "ce_loss_reweighted": reweighted}


def test_losses(bagel, train, batch):
    golden = goldens.arrays(FILE)
    labelled = np.asarray(batch.labels) >= 0
    noisy = np.asarray(batch.noisy[:, batch.labels.shape[1] :])
    first = losses_of(bagel, batch, train["timestep_shift"])
    second = losses_of(bagel, batch, train["second_run"]["timestep_shift"])
    computed = {
        "ce": first.ce[labelled],
        "ce_shift2": second.ce[labelled],
        "ce_logits": logits(bagel, first.hidden)[labelled],
        "ce_loss_weights": batch.weights[labelled],
        "mse_elementwise": first.mse[noisy],
        "mse_elementwise_shift2": second.mse[noisy],
        "mse_preds": first.velocity[noisy],
    }
    for key, value in computed.items():
        np.testing.assert_allclose(value, golden[key], atol=1e-4, rtol=1e-3, err_msg=key)
    for losses, facts in ((first, train), (second, train["second_run"])):
        for key, value in means_of(losses, batch).items():
            np.testing.assert_allclose(value, facts[key], rtol=2e-5, err_msg=key)
    ce, mse = mean_losses(first, batch)
    np.testing.assert_allclose(ce + mse, train["total_loss"], rtol=2e-5)


def test_latents(bagel, train):
    encoded = build(bagel, train)[1].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(encoded, goldens.arrays(FILE)["padded_latent"], atol=3e-5)


@pytest.fixture(scope="module")
def gradients(bagel, train, batch):
    """Gradient of the total loss for every official tensor of the main file."""
    config = replace(bagel.backbone.config, timestep_shift=train["timestep_shift"])
    backbone = replace(bagel.backbone, config=config)

    def total(base):
        params = replace(bagel.params, base=base)
        return sum(mean_losses(training_losses(backbone.model(params), batch), batch))

    gradient = dict(paths(jax.jit(jax.grad(total))(bagel.params.base)))
    official = {}
    for name, tensor in tables(bagel.params.base)[0].items():
        leaf = np.asarray(gradient[tensor.path])
        value = leaf if tensor.layer is None else leaf[tensor.layer]
        official[name] = tensor.source.layout.store(value)
    return official


def test_gradient_norms(train, gradients):
    norms = train["grad_norms_of_total_loss"]
    assert set(norms) == set(gradients)
    for name, want in norms.items():
        got = float(np.linalg.norm(gradients[name]))
        if want is None:
            assert got == 0, name
        elif want >= 1e-6:
            np.testing.assert_allclose(got, want, rtol=1e-3, err_msg=name)


def test_gradients(gradients):
    golden = goldens.arrays(FILE)
    keys = [key for key in golden if key.startswith("grad.")]
    assert keys
    for key in keys:
        error = np.abs(gradients[key.removeprefix("grad.")] - golden[key]).max()
        assert error <= 1e-3 * np.abs(golden[key]).max(), key


def test_every_tensor_is_compared(train):
    """What the tests above read, together with the inputs, is all that the file holds."""
    compared = {
        *(f"packed_{name}" for name in ("text_ids", "text_indexes", "position_ids", "label_ids")),
        *(f"packed_vit_{name}" for name in ("tokens", "position_ids", "token_indexes")),
        *("ce_loss_indexes", "mse_loss_indexes", "vit_token_seqlens", "packed_vae_token_indexes"),
        *("packed_latent_position_ids", "padded_latent", "packed_noise", "packed_timesteps"),
        *("ce", "ce_logits", "ce_shift2", "ce_loss_weights"),
        *("mse_preds", "mse_elementwise", "mse_elementwise_shift2"),
        *(f"sample{n}.attend_allowed" for n in range(len(train["samples"]))),
        *(f"image{n}_chw" for n in range(len(train["images"]))),
    }
    rest = [key for key in goldens.arrays(FILE) if not key.startswith("grad.")]
    assert sorted(set(rest) - compared) == []
