"""The benchmark command, on the golden BAGEL."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.train import main
from asg_jax.train.benchmarks.compilations import Compilations
from asg_jax.train.benchmarks.cost import StepCost, cost
from asg_jax.train.benchmarks.rollout import passed
from tests import goldens

SMALL = (
    "--batch=1 --samples=2 --tokens=3 --context=24 --steps=3 --size=32 --repeat=1 --bandwidth=100"
)
MEASURED = {"engine", "plain", "ratio", "differences", "compilation", "parts", "step"}
COMPILATION = {
    "first_call_seconds",
    "compile_seconds",
    "backend_seconds",
    "programs",
    "cached",
    "recompilations",
}
STEP = {
    "seconds",
    "flops",
    "parameter_bytes",
    "context_bytes",
    "gflops_per_second",
    "gigabytes_per_second",
}


def numbers(node: Any) -> list[float]:
    """All numbers of a JSON document."""
    if isinstance(node, dict | list):
        return [n for x in (node.values() if isinstance(node, dict) else node) for n in numbers(x)]
    return [node] if isinstance(node, int | float) else []


def test_rollout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    model = goldens.folder("bagel/model")
    argv = ["bench", "rollout", f"--model={model}", f"--out={out}", *SMALL.split()]
    assert main.main(argv) == 0
    printed = capsys.readouterr().out
    assert printed.count("ratio") == 2 and printed.rstrip().endswith("passed")
    report = json.loads(out.read_text())
    assert report["settings"]["tokens"] == 3 and report["passed"] is True
    assert report["jax"] == jax.__version__ and report["device"]["kind"]
    text, image = report["text"], report["image"]
    assert MEASURED | {"rows", "bucket"} == set(text) and MEASURED == set(image)
    assert (text["rows"], text["bucket"]) == (24, 24)
    assert text["differences"]["tokens"] == 0 and text["differences"]["log_probs"] <= 1e-4
    assert image["differences"]["pixels"] <= 2e-4
    assert {"encode_images", "prefill", "decode_loop", "draw"} == set(text["parts"])
    assert {"condition", "guided_step", "decode_pixels"} == set(image["parts"])
    assert STEP | {"bandwidth_share"} == set(text["step"]) and STEP == set(image["step"])
    for measured in (text, image):
        assert COMPILATION == set(measured["compilation"])
        assert measured["compilation"]["programs"] == 1
        assert measured["compilation"]["recompilations"] == 0
    assert all(map(math.isfinite, numbers(report)))


@pytest.mark.parametrize(
    ("dtype", "recompilations", "pixels", "good"),
    [
        ("float32", 0, 1e-5, True),
        ("float32", 0, 1e-3, False),
        ("float32", 1, 1e-5, False),
        ("bfloat16", 0, 1e-3, True),
        ("bfloat16", 1, 1e-5, False),
    ],
)
def test_passed(dtype: str, recompilations: int, pixels: float, good: bool) -> None:
    image = {"compilation": {"recompilations": recompilations}, "differences": {"pixels": pixels}}
    assert passed({"dtype": dtype, "image": image}) is good


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "speed",
            "no benchmark 'speed'; known are rewards, rollout, attention, update, cycle, choosing.",
        ),
        ("rollout", "the flag --model is missing"),
        ("rollout --model=x --batch=0", "flag --batch=0: it must be at least 1"),
        ("rollout --model=x --only=sound", "flag --only=sound"),
        ("rollout --model=x --out=/no/such/folder/a.json", "there is no folder /no/such/folder"),
        ("rollout --model=/no/such/model", "there is no folder /no/such/model"),
        ("rollout --model=GOLDEN --size=30", "--size must be a multiple of 16, at most 128."),
        ("rollout --model=GOLDEN --size=32 --context=5", "a picture alone takes 9 rows"),
    ],
)
def test_mistakes_are_one_line(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(goldens.folder("bagel/model"))
    only = ["--only=image"] if "--size=30" in words else []
    assert main.main(["bench", *words.replace("GOLDEN", folder).split(), *only]) == 2
    error = capsys.readouterr().err
    assert error.startswith("asg-jax: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize("argv", [["bench"], ["bench", "--help"], ["bench", "rollout", "--help"]])
def test_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(argv) == 0
    assert "usage: asg-jax bench" in capsys.readouterr().out


def test_compilations_counts_programs_once() -> None:
    double = jax.jit(lambda x: x * 2)
    x, y = np.ones(3, np.float32), np.ones(4, np.float32)
    with Compilations() as first:
        double(x)
    with Compilations() as again:
        double(x + 1)
    with Compilations() as other:
        double(y)
    assert (first.count, again.count, other.count) == (1, 0, 1)
    assert first.seconds > 0 and again.seconds == 0


def test_cost_counts_what_is_read() -> None:
    """Two stacked layers in a scan, one of two experts used, rows picked from a table."""
    shape = lambda *sizes: jax.ShapeDtypeStruct(sizes, jnp.bfloat16)
    params = {
        "table": shape(50, 8),
        "used": shape(2, 8, 8),
        "other": shape(2, 8, 8),
        "unused": shape(7),
    }
    ids, cache = jax.ShapeDtypeStruct((3,), jnp.int32), shape(2, 3, 8)

    def step(params: Any, context: Any) -> Any:
        ids, cache = context

        def layer(x: Any, inputs: Any) -> tuple[Any, Any]:
            weights, rows = inputs
            y = x @ weights["used"] + rows
            return y, y @ weights["other"]

        layers = {"used": params["used"], "other": params["other"]}
        return jax.lax.scan(layer, params["table"][ids], (layers, cache))[0]

    got = cost(step, params, (ids, cache))
    assert got == StepCost(2 * 2 * 3 * 8 * 8, 2 * 2 * 8 * 8, 2 * 2 * 3 * 8 + 4 * 3)


def test_attention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    assert not main.main(["bench", "attention", "--scale=64", "--repeat=1", f"--out={out}"])
    tasks = json.loads(out.read_text())["tasks"]
    assert set(tasks) > {"prefill", "matmul"} and all(t["seconds"] > 0 for t in tasks.values())
    assert tasks["prefill"]["flops"] == 4 * 8 * (32 * 32 // 2) * 28 * 128
    assert capsys.readouterr().out.count("TFLOP/s") == len(tasks)
