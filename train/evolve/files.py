"""Writing files so that a killed process leaves the old or the new one, never a part."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON in one step."""
    write_bytes(path, (json.dumps(sane(value), indent=2) + "\n").encode())


def write_picture(path: Path, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
    """Writes a PNG file in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    Image.fromarray(pixels).save(temporary, "png")
    os.replace(temporary, path)


def sane(value: Any) -> Any:
    """The same without numbers that JSON lacks: they become null."""
    if isinstance(value, Mapping):
        return {str(key): sane(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [sane(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
