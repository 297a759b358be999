"""`asg-jax convert`: official to sharded arrays and back, adapters merged on request."""

import errno
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file

from asg_jax.adapters import init_roles, merge
from asg_jax.models import peft
from asg_jax.models.registry import open_model, save_converted
from asg_jax.train.commands import convert
from asg_jax.train.main import main
from tests import goldens


@pytest.fixture
def folder():
    return goldens.folder("bagel/model")


def test_there_and_back_gives_equal_files(folder, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    assert main(["convert", f"--model={folder}", f"--out={there}"]) == 0
    assert main(["convert", f"--model={there}", f"--out={back}", "--to=official"]) == 0
    for name in ("ema.safetensors", "ae.safetensors"):
        want, got = load_file(folder / name), load_file(back / name)
        assert want.keys() == got.keys()
        for key, value in want.items():
            np.testing.assert_array_equal(got[key], value)


def test_an_adapter_is_merged_on_request(folder, tmp_path):
    model = open_model(str(folder))
    adapter = init_roles(jax.random.key(0), model.base, model.family.roles)["solver"]
    adapter = jax.tree.map(lambda x: x + 0.01, adapter)
    peft.save(tmp_path / "adapter", adapter, model.official_module, "base")
    out = tmp_path / "out"
    words = [f"--model={folder}", f"--out={out}", f"--adapter={tmp_path / 'adapter'}"]
    assert main(["convert", *words, "--to=official"]) == 0
    merged = merge(model.base, adapter)
    jax.tree.map(np.testing.assert_array_equal, open_model(str(out)).base, merged)


@pytest.mark.parametrize("layout", ["orbax", "official"])
def test_nothing_is_written_over(folder, tmp_path, capsys, monkeypatch, layout):
    source, link, other = tmp_path / "source", tmp_path / "link", tmp_path / "other"
    shutil.copytree(folder, source)
    link.symlink_to(source)
    other.mkdir()
    (other / "tokenizer.json").write_text("{}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(convert, "open_model", None)  # refused before anything is read
    for out in (source, link, other, source / "ema.safetensors"):
        assert main(["convert", f"--model={source}", f"--out={out}", f"--to={layout}"]) == 2
        assert f"{out} exists already; remove it" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", ["orbax", "official"])
def test_a_conversion_that_fails_leaves_nothing(folder, tmp_path, monkeypatch, layout):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    model = open_model(str(folder))
    if layout == "orbax":
        monkeypatch.setattr(ocp.StandardCheckpointer, "save", fail)
    else:
        monkeypatch.setattr("asg_jax.models.checkpoint.export", fail)
    (tmp_path / ".out.99999999.part").mkdir()  # of a killed one
    with pytest.raises(OSError):
        if layout == "orbax":
            save_converted(tmp_path / "out", model)
        else:
            model.family.export(tmp_path / "out", model.backbone, model.base, None)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_one_line_and_status_2(folder, tmp_path, capsys):
    for words, message in (
        ([f"--out={tmp_path}"], "--model is missing"),
        ([f"--model={folder}", f"--out={tmp_path}", "--to=zip"], "zip"),
        ([f"--model={tmp_path}", f"--out={tmp_path}"], "no checkpoint of a known model"),
        ([f"--model={folder}", f"--out={tmp_path}", "--adapter=none"], "adapter_config.json"),
    ):
        assert main(["convert", *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
