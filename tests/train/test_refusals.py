"""What a command refuses costs one sentence: it ends with status 2 and has changed no file."""

import hashlib
import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from asg_jax.train import commands
from asg_jax.train.evolve.config import FILE, read
from asg_jax.train.evolve.files import write_json
from asg_jax.train.evolve.typed import plain
from asg_jax.train.flags import load_config
from asg_jax.train.main import find_commands, main

# Of every command, what it must refuse, and a word of the sentence.
REFUSED = {
    "ablate": [
        ("--workdir=new --out=new/a --seeds=a", "--seeds has 'a'"),
        ("--workdir=new --out=new/a --names=none", "no ablation 'none'"),
        ("--workdir=~no-such-user/new", "home that is not known"),
    ],
    "ask": [
        ("--model=bagel-tiny --image=gone.png what?", "gone.png does not exist"),
        ("--model=gone --image=pictures/0.png what?", "no folder gone"),
        ("--model=bagel-tiny --image=notes.txt what?", "no readable picture"),
        ("--model=bagel-tiny --image=~/gone.png what?", "home/gone.png does not exist"),
        ("--model=bagel-tiny --image=~no-such-user/0.png what?", "home that is not known"),
    ],
    "bench": [
        ("rollout --model=random:none --out=new.json", "no model size 'none'"),
        ("rollout --model=bagel-tiny --out=notes.txt", "exists already"),
        ("rollouts", "no benchmark 'rollouts'"),
    ],
    "compare": [
        ("--methods=none --workdir=new", "no method 'none'"),
        ("--methods=gvu --budget=-1 --workdir=new", "--budget"),
        ("--methods=gvu --seeds=a --workdir=new", "--seeds has 'a'"),
    ],
    "configs": [("none", "words"), ("--none", "none"), ("a b", "words")],
    "convert": [
        ("--model=bagel-tiny --out=run", "exists already"),
        ("--model=pictures --out=new", "no checkpoint of a known model"),
        ("--model=bagel-tiny --out=new --adapter=gone", "gone"),
        ("--model=bagel-tiny --out=notes.txt/new", "takes no files"),
    ],
    "evaluate": [
        ("--model=gone --out=new", "no folder gone"),
        ("--model=bagel-tiny --out=scored", "exists already"),
        ("--model=bagel-tiny --config.eval.prompts=0 --out=new", "config.eval.prompts"),
    ],
    "evolve": [
        ("--config.data.folder=gone --workdir=new", "gone is no folder"),
        ("--config.data.folder=pictures --config.model=gone --workdir=new", "no folder gone"),
        ("--config.data.folder=pictures --workdir=run", "run holds a run with config.data.folder="),
        ("--config.method.solver.rank=0 --workdir=new", "config.method.solver.rank"),
        ("--workdir=~no-such-user/new", "home that is not known"),
    ],
    "export": [
        ("run --out=notes.txt", "exists already"),
        ("gone --out=new", "gone"),
        ("run --out=new --merge=none", "run"),
    ],
    "fit": [
        ("--topology=v9:2x2", "v9"),
        ("--config.method.solver.rank=0", "config.method.solver.rank"),
        ("--config=none", "no config 'none'"),
    ],
    "generate": [
        ("--model=gone --out=new circle", "no folder gone"),
        ("--model=bagel-tiny --out=notes.txt circle", "notes.txt"),
        ("--model=bagel-tiny --out=new --guidance=inf circle", "--guidance"),
        (
            "--model=bagel-tiny --out=new --image=~no-such-user/0.png circle",
            "home that is not known",
        ),
        ("--model=bagel-tiny --out=new cir\udcffcle", "Unicode"),
    ],
    "models": [("none", "words"), ("--none", "none"), ("a b", "words")],
    "pretrain": [
        ("--config.size=none --workdir=new", "no size 'none'"),
        ("--workdir=run", "run exists already"),
        ("--config.steps=-1 --workdir=new", "steps"),
    ],
    "report": [
        ("--out=new.json gone", "holds no scores"),
        ("--out=notes.txt run", "exists already"),
        ("--out=new.json", "no run folder is named"),
    ],
}
CASES = [(command, *case) for command, cases in REFUSED.items() for case in cases]


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """What libraries write when they are imported for the first time is no command's doing."""
    for source in find_commands().values():
        importlib.import_module(f"{commands.__name__}.{source.stem}")
    importlib.import_module("matplotlib.font_manager")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with their home in it, and everything that a command may meet."""
    (tmp_path / "pictures").mkdir()
    for n in range(3):
        pixels = np.random.default_rng(n).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{n}.png")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "run").mkdir()
    config = read(load_config("bagel_tiny").to_dict())
    write_json(tmp_path / "run" / FILE, plain(replace(config, seed=1)))
    (tmp_path / "scored").mkdir()
    (tmp_path / "scored" / "scores.json").write_text(json.dumps({}))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    """Hashes of all files, and the names of all folders."""
    return {
        path.relative_to(folder).as_posix(): (
            "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in folder.rglob("*")
    }


def test_every_command_is_here() -> None:
    assert set(REFUSED) == set(find_commands())
    assert min(map(len, REFUSED.values())) >= 3


@pytest.mark.parametrize(("command", "words", "sentence"), CASES)
def test_a_refused_command_changes_no_file(place, capsys, command, words, sentence) -> None:
    before = contents(place)
    assert main([command, *words.split()]) == 2
    after = contents(place)
    assert {name: after.get(name) for name in before} == before
    caches = [name for name in after.keys() - before.keys() if name.startswith("home/.cache")]
    assert after.keys() - before.keys() == set(caches)
    told = capsys.readouterr().err
    assert told.startswith("asg-jax: ") and sentence in told and told.count("\n") == 1
