"""Understanding against Qwen2.5-VL of Hugging Face, on a random model of the golden sizes.

Needs PyTorch, which comes with `pip install -e ".[test,parity]"`.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from asg_jax.backbone import Params
from asg_jax.models.blip3o import checkpoint
from asg_jax.models.blip3o.backbone import Blip3oBackbone
from asg_jax.models.blip3o.config import Blip3oConfig
from asg_jax.models.checkpoint import paths
from tests import goldens
from tests.models.blip3o.conftest import Loaded
from tests.models.blip3o.golden import golden_config
from tests.models.blip3o.test_golden_text import PICTURES, TEXT, logits, names, picture_of

torch = pytest.importorskip("torch", reason="PyTorch comes with the extra `parity`")
# Official name of a module -> its name in a model of transformers; the rest is not Qwen2.5-VL's.
NAMES = (
    (r"model\.(?=embed_tokens|layers|norm)", "model.language_model."),
    (r"visual\.", "model.visual."),
    (r"lm_head\.", "lm_head."),
)


@pytest.fixture(scope="module")
def ours():
    backbone, rng = Blip3oBackbone(golden_config()), np.random.default_rng(3)

    def draw(path, leaf):
        noise = rng.normal(0, 0.1, leaf.shape).astype(np.float32)
        return jnp.asarray(noise + (path.endswith("weight")))  # of norms

    abstract = backbone.abstract_base("float32")
    leaves = [draw(path, leaf) for path, leaf in paths(abstract)]
    return Loaded(backbone, Params(jax.tree.unflatten(jax.tree.structure(abstract), leaves)))


def official_config(config: Blip3oConfig):
    from transformers import Qwen2_5_VLConfig

    language, vision, tokens = config.language, config.vision, config.tokens
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": language.vocabulary,
            "hidden_size": language.width,
            "intermediate_size": language.inner,
            "num_hidden_layers": language.layers,
            "num_attention_heads": language.heads,
            "num_key_value_heads": language.kv_heads,
            "rms_norm_eps": language.eps,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": language.theta,
                "mrope_section": list(language.sections),
            },
        },
        vision_config={
            "depth": vision.layers,
            "hidden_size": vision.width,
            "out_hidden_size": language.width,
            "num_heads": vision.heads,
            "intermediate_size": vision.inner,
            "patch_size": vision.patch,
            "spatial_merge_size": vision.merge,
            "temporal_patch_size": vision.frames,
            "window_size": vision.window,
            "fullatt_block_indexes": list(vision.full),
        },
        image_token_id=tokens.picture,
        vision_start_token_id=tokens.vision_start,
        vision_end_token_id=tokens.vision_end,
    )


@pytest.fixture(scope="module")
def theirs(ours, tmp_path_factory):
    """The same weights, through the export."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    folder = tmp_path_factory.mktemp("export")
    checkpoint.export(folder, ours.backbone, ours.params.base, None)
    weights = {}
    with safe_open(folder / checkpoint.MAIN_FILE, "pt") as file:
        for name in file.keys():
            for pattern, prefix in NAMES:
                if match := re.match(pattern, name):
                    weights[prefix + name[match.end() :]] = file.get_tensor(name)
    model = Qwen2_5_VLForConditionalGeneration(official_config(ours.backbone.config))
    model.load_state_dict(weights)
    return model.eval()


def inputs(ids, mask, pictures):
    """What the official model is given: tokens, the patches of the pictures, and their places."""
    golden = goldens.arrays(PICTURES)
    joined = lambda key: np.concatenate([golden[f"{name}.{key}"] for name in pictures])
    arrays = {
        "input_ids": ids,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == golden_config().tokens.picture).astype(int),
        "pixel_values": joined("pixel_values"),
        "image_grid_thw": joined("grid_thw"),
    }
    return {name: torch.tensor(array) for name, array in arrays.items()}


def test_logits_of_conversations(ours, theirs):
    """Two rows with a picture each; the official ones are padded on the left."""
    golden = goldens.arrays(TEXT)
    ids, mask = golden["batch.input_ids"], golden["batch.attention_mask"]
    pictures = [f"image{n}" for n in range(len(ids))]
    with torch.no_grad():
        want = theirs(**inputs(ids, mask, pictures)).logits.numpy()
    rows = [row[real] for row, real in zip(ids, mask.astype(bool), strict=True)]
    got = np.asarray(logits(ours, ours.jit("states")(ours.prompt(rows, pictures))))
    for n, row in enumerate(rows):
        np.testing.assert_allclose(got[n, : len(row)], want[n, -len(row) :], atol=1e-4)


def test_greedy_continuations(ours, theirs):
    case, count = names(TEXT, ".answer_ids")[0], 8
    ids = goldens.arrays(TEXT)[f"{case}.input_ids"]
    given = inputs(ids, np.ones_like(ids), [picture_of(case)])
    out = theirs.generate(**given, max_new_tokens=count, do_sample=False, eos_token_id=-1)
    spoken = out[0, ids.shape[1] :].tolist()
    found = list(ids[0])
    for _ in range(count):
        states = ours.jit("states")(ours.prompt([np.array(found)], [picture_of(case)]))
        found.append(int(logits(ours, states)[0, len(found) - 1].argmax()))
    assert found[ids.shape[1] :] == spoken
