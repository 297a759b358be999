"""The smallest run of the real method: a random model, and a language that reads sense into noise.

Other tools kill it or watch its memory. As a config: --config=tools/tiny_run.py:FOLDER
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from asg_jax import prompts
from asg_jax.models.bagel.config import write_config
from asg_jax.models.bagel.family import FAMILY, SMALL
from asg_jax.models.bagel.processor import specials
from asg_jax.models.places import new_folder
from asg_jax.models.tokenizers import write_word_tokenizer
from asg_jax.train.data import grammar
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evolve.config import Batch, Data, Replaying, RunConfig, Saving
from asg_jax.train.evolve.typed import as_config
from tests.tiny import BABBLE, SETTINGS

MODEL, PICTURES = "model", "pictures"
# One device; the older generator of CPU code, where there are two, compiles sooner.
FLAGS = "--xla_force_host_platform_device_count=1"
QUICK = " --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""
COUNT = 12  # pictures
SIDE = 32  # pixels
EVAL = EvalSettings(
    questions=4,
    votes=2,
    pictures_per_batch=1,
    prompts=6,
    best_of=2,
    best_of_prompts=2,
    prompts_per_batch=6,
    guidance=1.0,
    steps=2,
)


def get_config(folder: str) -> ConfigDict:
    """A run on what `make` wrote into a folder."""
    config = RunConfig(
        name="tiny",
        model=str(Path(folder) / MODEL),
        language="scenes",
        method=SETTINGS,
        steps=8,
        data=Data(str(Path(folder) / PICTURES)),
        batch=Batch(understanding=2, generation=2),
        replay=Replaying(size=4, share=0.5),
        checkpoint=Saving(every=2, keep=2),
        eval=EVAL,
    )
    return as_config(config)


def make(folder: Path) -> None:
    """Writes a model of random numbers and pictures of noise into a new folder."""
    tiny = SMALL["bagel-tiny"]
    language = replace(
        tiny.language, width=32, layers=1, heads=2, kv_heads=2, head_width=16, inner=32
    )
    vision = replace(tiny.vision, width=32, layers=1, heads=2, inner=32)
    vae = replace(tiny.vae, channels=4, groups=2)
    config = replace(tiny, language=language, vision=vision, vae=vae)
    with new_folder(folder) as part:
        words, pictures = part / "words", part / PICTURES
        words.mkdir()
        write_config(config, words)
        write_word_tokenizer(words, grammar.vocabulary(), specials(config.tokens))
        backbone, _ = FAMILY.open(words, "float32")
        base = jax.jit(backbone.init_base)(jax.random.key(0))
        FAMILY.export(part / MODEL, backbone, base, words)
        pictures.mkdir()
        rng = np.random.default_rng(0)
        for n in range(COUNT):
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            Image.fromarray(pixels).save(pictures / f"{n:02d}.png")


def set_up(programs: Path) -> None:
    """Makes this process one of tiny runs: any text of the model is sense, compiling takes little.

    Args:
      programs: folder for all that is compiled, whatever its size.
    """
    prompts.LANGUAGES["scenes"] = BABBLE
    os.environ["XLA_FLAGS"] = FLAGS + QUICK
    programs.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(programs))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
