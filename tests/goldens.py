"""Reading golden files, and comparing every array that they hold."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.conftest import golden_folder


@cache
def arrays(file: str) -> Mapping[str, np.ndarray]:
    """Tensors of a safetensors file of the golden folder; skips the test where it is absent."""
    return load_file(_present(file))


@cache
def facts(file: str) -> Any:
    """Content of a json file of the golden folder; skips the test where it is absent."""
    return json.loads(_present(file).read_text())


def folder(name: str) -> Path:
    """A folder of golden data; skips the test where it is absent."""
    return _present(name)


def check_all(
    file: str,
    computed: Mapping[str, Any],
    tolerance: Callable[[str], tuple[float, float]],
    exempt: Iterable[str] = (),
) -> None:
    """Compares every tensor of a file with what the library computed under the same name.

    Args:
      file: safetensors file of the golden folder.
      computed: our arrays; a tensor that is absent here fails the test.
      tolerance: (absolute, relative) tolerance of a key; integers are compared exactly.
      exempt: keys that are not compared (inputs, or what the golden rules leave out).
    """
    wanted = {key: value for key, value in arrays(file).items() if key not in set(exempt)}
    unchecked = sorted(set(wanted) - set(computed))
    assert not unchecked, f"{file}: nothing was computed for {unchecked}"
    wrong, largest = [], {}
    for key, want in wanted.items():
        got = np.asarray(computed[key])
        absolute, relative = (0.0, 0.0) if want.dtype.kind in "iub" else tolerance(key)
        if got.shape != want.shape:
            wrong.append(f"{key}: shape {got.shape}, expected {want.shape}")
            continue
        error = np.abs(got.astype(np.float64) - want)
        largest[_group(key)] = max(largest.get(_group(key), 0.0), float(error.max(initial=0.0)))
        if not np.all(error <= absolute + relative * np.abs(want)):
            wrong.append(f"{key}: largest error {error.max():.2e}")
    for group, value in largest.items():
        print(f"{file} {group}: largest error {value:.1e}")  # shown by `pytest -rP`
    assert not wrong, f"{file}: " + "; ".join(wrong)


def _group(key: str) -> str:
    return re.sub(r"\d+", "#", key)


def _present(name: str) -> Path:
    path = golden_folder() / name
    if not path.exists():
        pytest.skip(f"the golden folder holds no {name}")
    return path
