"""A run from random weights to a folder that opens, also when it was stopped on the way."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from asg_jax.errors import UserError
from asg_jax.models.registry import open_model
from asg_jax.train.evolve.lock import locked
from asg_jax.train.main import main
from asg_jax.train.pretrain import lessons as data
from asg_jax.train.pretrain import run
from asg_jax.train.pretrain.settings import Course, Lane, PretrainSettings

FAST = Course(steps=4, batch=2)
SMALL = PretrainSettings(
    scenes=20,
    prompts=4,
    prompt_length=48,
    draws=2,
    steps=4,
    autoencoder=FAST,
    encoder=FAST,
    decoder=FAST,
    warmup=1,
    checkpoint_every=2,
)
FEW = (
    Lane((("answer", 1.0),), pictures=1, contexts=2, texts=2, length=24),
    Lane((("rewrite", 1.0),), pictures=0, contexts=2, texts=1, length=64),
)


@pytest.fixture(scope="module", autouse=True)
def few_lanes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "LANES", FEW)
        patch.setattr(run, "LANES", FEW)
        yield


STAGES = {
    "bagel-tiny": ["autoencoder"],
    "vargpt-tiny": ["autoencoder"],
    "blip3o-tiny": ["autoencoder", "encoder", "decoder"],
}
# Two stages, or five networks, to be compiled.
LARGE, LONG = (
    [pytest.param(name, marks=mark) for name in ("vargpt-tiny", "blip3o-tiny")]
    for mark in (pytest.mark.slow, pytest.mark.long)
)


@pytest.fixture(scope="module", params=["bagel-tiny", *LARGE])
def settings(request) -> PretrainSettings:
    return replace(SMALL, size=request.param)


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory) -> Path:
    return run.pretrain(settings, tmp_path_factory.mktemp("whole"))


def weights(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in folder.rglob("*.safetensors"):
        tensors = load_file(path)
        found |= {f"{path.relative_to(folder)}: {name}": x for name, x in tensors.items()}
    return found


@pytest.mark.slow
def test_the_result_opens_and_has_learned(settings, whole):
    model = open_model(str(whole), "float32")
    ids = model.processor.ids("how many circles are there?")
    assert model.processor.text(ids) == "how many circles are there?"
    log = [json.loads(line) for line in (whole.parent / "metrics.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in log] == [*STAGES[settings.size], "joint"]
    assert {"answer", "rewrite", "drawing"} <= set(log[-1])
    files = [file for file in whole.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    assert json.loads((whole / "pretraining.json").read_text())["settings"]["scenes"] == 20


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["bagel-tiny", *LONG], indirect=True)
@pytest.mark.parametrize("name", ["pictures", "lessons"])
def test_a_stopped_run_ends_with_the_same_weights(settings, whole, tmp_path, monkeypatch, name):
    real = getattr(run, name)

    def stop(*arguments):
        if arguments[-1] == 3:
            raise RuntimeError("stopped")
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
        patch.setattr(run, name, stop)
        run.pretrain(settings, tmp_path)
    again = weights(run.pretrain(settings, tmp_path))
    assert again
    for key, value in weights(whole).items():
        np.testing.assert_array_equal(again[key], value, key)


def test_a_folder_of_another_run_is_refused(settings, whole):
    with pytest.raises(UserError, match="another value of rate"):
        run.pretrain(replace(settings, rate=1e-3), whole.parent)


def test_an_unknown_size_is_named(tmp_path):
    with pytest.raises(UserError, match="bagel-tiny"):
        run.pretrain(replace(SMALL, size="bagel-huge"), tmp_path)


def test_a_misspelt_field_is_one_line(capsys, tmp_path):
    assert main(["pretrain", "--config.ratee=1", f"--workdir={tmp_path}"]) == 2
    assert "ratee" in capsys.readouterr().err


def test_a_second_process_is_refused(tmp_path):
    run._claim(tmp_path, SMALL)
    with locked(tmp_path):
        with pytest.raises(UserError, match="another process .* works in"):
            run.pretrain(SMALL, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "settings.json"}
