"""Damaged files of every kind end in the clean result or in a UserError, never in anything else.

Where a file carries checksums, or its numbers are compared with shapes and finite values, a changed
result is a failure. What nothing can tell is left alone: bits inside the tensors of a safetensors
file, digits of a json file that leave it well formed, the data of JPEG and WebP files.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from asg_jax.adapters import LoRASpec, init
from asg_jax.engine.method import Kept, Report
from asg_jax.errors import UserError
from asg_jax.models import checkpoint as files
from asg_jax.models import peft
from asg_jax.models.bagel import config as bagel
from asg_jax.models.checkpoint import INDEX_FILE, LINEAR, Checkpoint, Source, weight_files
from asg_jax.models.pictures import open_picture
from asg_jax.models.registry import open_model, save_converted
from asg_jax.models.tokenizers import load_tokenizer, write_word_tokenizer
from asg_jax.models.vargpt import config as vargpt
from asg_jax.train.data import folder as folder_module
from asg_jax.train.data.folder import FolderSource
from asg_jax.train.data.scenes_builder import IMAGES, SceneSource, prepare
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evolve import judging
from asg_jax.train.evolve.checks import trends
from asg_jax.train.evolve.config import FILE, check_folder
from asg_jax.train.evolve.files import write_json
from asg_jax.train.evolve.logs import Logs, read_metrics
from asg_jax.train.evolve.replay import Replay
from asg_jax.train.evolve.typed import plain
from tests import goldens
from tests.damage import damaged
from tests.train.evolve.fake import CONFIG, FakeJudge

pytestmark = pytest.mark.filterwarnings("ignore")  # of decoders, about what is damaged

SPECIALS = {"<a>": 3, "<b>": 4}
BASE = {
    "m": {"kernel": np.ones((2, 6, 4), np.float32)},
    "n": {"kernel": np.ones((4, 6), np.float32)},
}
TELLS = True  # the kind's own checksums or checks tell any change


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
      make: writes clean files into a folder.
      read: what the programs make of the folder.
      files: pattern of the files that are damaged.
      share: part of the cases, in [0, 1].
      tells: any change of the result is a failure.
      header: only the json header of a safetensors file is changed.
    """

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    files: str
    share: float
    tells: bool = False
    header: bool = False


def _picture(form: str) -> Callable[[Path], None]:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    return lambda folder: Image.fromarray(pixels).save(folder / f"a.{form}", form)


def _pictures(folder: Path) -> None:
    for form in ("png", "jpeg", "webp", "bmp"):
        _picture(form)(folder)


def _seen(folder: Path) -> list[bytes]:
    (path,) = folder.iterdir()
    return [np.asarray(open_picture(path)).tobytes()]


def _stream(folder: Path) -> int:
    source = FolderSource(folder)
    return sum(source[n] is not None for n in range(len(source)))


def _weights(folder: Path) -> None:
    tree = {"m": {"kernel": np.arange(48, dtype=np.float32).reshape(2, 6, 4)}}
    files.export(folder / "a.safetensors", tree, files.tensor_table(tree, _place))


def _place(path: str, axes: int) -> Source:
    return Source(f"{path}.{{n}}" if axes == 3 else path, LINEAR)


def _load(folder: Path) -> list[bytes]:
    abstract = {"m": {"kernel": jax.ShapeDtypeStruct((2, 6, 4), jnp.float32)}}
    opened, table = Checkpoint([folder / "a.safetensors"]), files.tensor_table(abstract, _place)
    files.check(opened, table)
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(files.load(opened, abstract, table))]


def _official(path: str) -> str:
    return "model.layers.{n}.m" if path == "m" else "model.n"


def _adapter(folder: Path) -> None:
    adapter = init(jax.random.key(0), BASE, [LoRASpec("m|n", rank=2, alpha=4.0)])
    peft.save(folder, adapter, _official, "base")


def _adapted(folder: Path) -> list[bytes]:
    adapter = peft.load(folder, BASE, _official)
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(adapter)]


def _index(folder: Path) -> None:
    names = ("model-1.safetensors", "model-2.safetensors")
    for name in names:
        save_file({name: np.ones(2, np.float32)}, folder / name)
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": {name: name for name in names}}))


def _scenes(folder: Path) -> None:
    prepare(dataclasses.replace(IMAGES, name="few", splits=(("train", 8),)), folder)


def _scenes_seen(folder: Path) -> list[bytes]:
    source = SceneSource(prepare(dataclasses.replace(IMAGES, name="few"), folder))
    return [np.asarray(source[n].picture).tobytes() for n in range(len(source))]


def _converted(folder: Path) -> None:
    save_converted(folder / "model", open_model(str(goldens.folder("bagel/model"))))


def _opened(folder: Path) -> list[bytes]:
    return [
        np.asarray(x).tobytes() for x in jax.tree.leaves(open_model(str(folder / "model")).base)
    ]


def _judgement(folder: Path) -> None:
    judging.recall(
        folder, "before", lambda: FakeJudge()(None, EvalSettings(questions=24, prompts=6))
    )


def _judged(folder: Path) -> list[Any]:
    found = judging.recall(folder, "before", lambda: pytest.fail("judged again"))
    return [found.scores.to_json(), found.pictures.tobytes(), found.seconds]


def _settings(folder: Path) -> None:
    write_json(folder / FILE, plain(CONFIG))


def _metrics(folder: Path) -> None:
    report = Report("understanding", {"reward/solver": 0.5, "check/well_formed": 1.0}, [], {}, [])
    logs = Logs(folder, 9)
    for step in range(1, 9):
        logs.step(step, report, 0.1)
    for path in folder.glob("status*"):
        path.unlink()


def _measured(folder: Path) -> int:
    found = read_metrics(folder)
    trends(found)
    return len(found)


def _replay(folder: Path) -> None:
    kept = [Kept(np.full((8, 8, 3), n, np.uint8), float(n)) for n in range(4)]
    Replay(folder, 9, 2).add(1, kept)


def _replayed(folder: Path) -> list[bytes]:
    replay = Replay(folder, 9, 2)
    marks = [zlib.crc32(np.full((8, 8, 3), n, np.uint8).tobytes()) for n in range(4)]
    replay.restore({"first": 0, "steps": [1] * 4, "checksums": marks})
    return [one.picture.tobytes() for one in replay.drawn]


KINDS = {
    "judgement": Kind(_judgement, _judged, "*", 0.1, tells=True),
    "settings of a run": Kind(_settings, lambda folder: check_folder(folder, CONFIG), "*", 0.1),
    "metrics": Kind(_metrics, _measured, "*.jsonl", 0.1),
    "drawings for replay": Kind(_replay, _replayed, "**/*.png", 0.1, tells=True),
    "png": Kind(_picture("png"), _seen, "*", 0.1, tells=True),
    "jpeg": Kind(_picture("jpeg"), _seen, "*", 0.06),
    "webp": Kind(_picture("webp"), _seen, "*", 0.06),
    "tiff": Kind(_picture("tiff"), _seen, "*", 0.06),
    "folder of pictures": Kind(_pictures, _stream, "*", 0.1),
    "safetensors": Kind(_weights, _load, "*", 0.16, tells=True, header=True),
    "json of BAGEL": Kind(
        lambda folder: bagel.write_config(bagel.BagelConfig(), folder), bagel.read_config, "*", 0.12
    ),
    "json of VARGPT": Kind(
        lambda folder: vargpt.write_config(vargpt.VargptConfig(), folder),
        vargpt.read_config,
        "*",
        0.12,
    ),
    "index": Kind(_index, lambda folder: Checkpoint(weight_files(folder)).shape, "*.json", 0.06),
    "adapter": Kind(_adapter, _adapted, "*.json", 0.05),
    "weights of an adapter": Kind(_adapter, _adapted, "*.safetensors", 0.03, True, True),
    "tokenizer": Kind(
        lambda folder: write_word_tokenizer(folder, ["\n", "a", "b"], SPECIALS),
        lambda folder: load_tokenizer(folder, SPECIALS).encode("a b") and None,
        "*",
        0.03,
    ),
    "scenes": Kind(_scenes, _scenes_seen, "**/*.array_record*", 0.04, tells=True),
    "facts of scenes": Kind(_scenes, _scenes_seen, "**/*.json", 0.01),
}
SLOW = {"sharded arrays": Kind(_converted, _opened, "model/orbax/**/*", 1.0)}


def outcomes(kind: Kind, folder: Path, cases: int) -> dict[str, int]:
    """Damages one file after the other, in a copy, and counts what comes of it."""
    clean = folder / "clean"
    clean.mkdir()
    kind.make(clean)
    expected = kind.read(clean)
    paths = sorted(path.relative_to(clean) for path in clean.glob(kind.files) if path.is_file())
    found = {"refused": 0, "equal": 0, "changed": 0}
    for case in range(cases):
        path = paths[case % len(paths)]
        data = (clean / path).read_bytes()
        reach = 8 + struct.unpack("<Q", data[:8])[0] if kind.header else None
        seed = zlib.crc32(f"{path} {case}".encode())
        copy = folder / "copy"
        shutil.copytree(clean, copy)
        (copy / path).write_bytes(damaged(data, seed, reach))
        try:
            result = kind.read(copy)
        except UserError as error:
            assert len(str(error)) < 3000, error
            found["refused"] += 1
        except BaseException as error:
            raise AssertionError(f"{path}, case {case}, seed {seed}: {error!r}") from error
        else:
            same = result == expected
            found["equal" if same else "changed"] += 1
            assert same or not kind.tells, f"{path}, case {case}, seed {seed}: another result"
        shutil.rmtree(copy)
    gc.collect()
    return found


@pytest.fixture(autouse=True)
def memory(tmp_path_factory, monkeypatch) -> None:
    """What checks of folders find is remembered here."""
    monkeypatch.setattr(folder_module, "CHECKED", tmp_path_factory.mktemp("checked"))


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_refused_or_harmless(tmp_path, name: str) -> None:
    found = outcomes(KINDS[name], tmp_path, round(500 * KINDS[name].share))
    assert found["refused"] + found["changed"] > 0  # a picture that is skipped changes a stream


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_many_damaged_files_are_refused_or_harmless(tmp_path, name: str) -> None:
    outcomes(KINDS[name], tmp_path, round(10_000 * KINDS[name].share))


@pytest.mark.slow
def test_damaged_sharded_arrays_are_refused_or_harmless(tmp_path, monkeypatch) -> None:
    # TensorStore leaves coroutines behind where it fails, which nobody has waited for.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    outcomes(SLOW["sharded arrays"], tmp_path, 40)
