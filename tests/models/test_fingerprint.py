"""Fingerprints of models: equal for equal files, others after any change that training makes."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from asg_jax.errors import UserError
from asg_jax.models.fingerprint import fingerprint
from asg_jax.models.registry import SHIPPED


def test_any_change_shows(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED / "bagel-tiny", folder)
    first = fingerprint(str(folder))
    assert first == fingerprint("bagel-tiny") != fingerprint("bagel-tiny-clean")
    seen = {first}
    tensors = load_file(folder / "ema.safetensors")
    changed = {
        name: (value * np.float32(1.01)).astype(value.dtype) for name, value in tensors.items()
    }
    save_file(changed, folder / "ema.safetensors")  # of the same size
    seen.add(fingerprint(str(folder)))
    (folder / "llm_config.json").write_text((folder / "llm_config.json").read_text() + " ")
    seen.add(fingerprint(str(folder)))
    (folder / "scores.json").rename(folder / "scored.json")
    seen.add(fingerprint(str(folder)))
    (folder / "tokenizer.json").unlink()
    seen.add(fingerprint(str(folder)))
    assert len(seen) == 5


def test_random_models_and_missing_ones(tmp_path):
    assert fingerprint("random:bagel-30m") == "random:bagel-30m"
    with pytest.raises(UserError, match="there is no folder"):
        fingerprint(str(tmp_path / "none"))
