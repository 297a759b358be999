"""No file that the programs read can run code, lead out of its folder or take all memory."""

import re
import struct
from pathlib import Path

import pytest

from asg_jax.errors import UserError
from asg_jax.models.checkpoint import Checkpoint
from asg_jax.models.registry import open_model

ROOT = Path(__file__).resolve().parents[1]
CODE = [
    path
    for folder in ("asg_jax", "models", "train", "configs")
    for path in (ROOT / folder).rglob("*.py")
]
# JAX's own names, and the sentence that tells how to convert a pickle elsewhere.
HARMLESS = re.compile(r"jax\.eval|self\.eval|weights_only=True|\ba pickle, ")
# Ways by which data becomes code; tar archives may name files outside of their folder.
DANGEROUS = re.compile(
    r"\bpickle\b|\bjoblib\b|\bdill\b|\bmarshal\b|\bshelve\b|allow_pickle=True|torch\.load"
    r"|\beval\(|\bexec\(|yaml\.load|trust_remote_code=True|tarfile|shell=True|os\.system"
)


def test_no_source_names_what_runs_data():
    found = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in CODE
        for line in path.read_text().splitlines()
        if DANGEROUS.search(line) and not HARMLESS.search(line)
    }
    assert len(CODE) > 100 and not found


def test_a_hostile_file_is_not_run(tmp_path):
    """A pickle that would make a file, under every name that weights and tokenizers bear."""
    proof = tmp_path / "proof"
    hostile = b"cos\nmkdir\n(V" + str(proof).encode() + b"\ntR."
    model = tmp_path / "model"
    for name in ("llm_config.json", "vit_config.json"):
        model.mkdir(exist_ok=True)
        shipped = ROOT / "models" / "shipped" / "bagel-tiny" / name
        (model / name).write_bytes(shipped.read_bytes())
    names = [
        "ema.safetensors",
        "ae.safetensors",
        "pytorch_model.bin",
        "tokenizer.json",
        "vocab.json",
    ]
    for name in names:
        (model / name).write_bytes(hostile)
    with pytest.raises(UserError):
        open_model(str(model))
    assert not proof.exists()


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 10**9) + b"{",
        struct.pack("<Q", 2) + b"{}" + b"spare",
        struct.pack("<Q", 58) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,999999]}}',
        struct.pack("<Q", 70)
        + b'{"a":{"dtype":"F32","shape":[9999999999999999999],"data_offsets":[0,4]}}',
        struct.pack("<Q", 8) + b"[" * 8,
    ],
)
def test_claims_of_a_header_are_not_believed(tmp_path, header):
    (tmp_path / "a.safetensors").write_bytes(header)
    with pytest.raises(UserError, match="truncated or not a safetensors file"):
        Checkpoint([tmp_path / "a.safetensors"])
