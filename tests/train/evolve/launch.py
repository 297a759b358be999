"""Runs in processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import DEVICES, QUICK, ROOT

LIMIT = 1800  # seconds: the first compilation takes minutes where others share the machine


def start(module: str, words: Sequence[object], devices: int = 1) -> subprocess.Popen[str]:
    """Starts a module of the checkout on so many CPU devices.

    XLA makes as many threads as there are devices, unless NPROC asks for more: too few for a
    program whose collectives may run in any order, as every device may then wait in another one.
    """
    own = {name: value for name, value in os.environ.items() if name != "NPROC"}
    threads = {"NPROC": str(8 * devices)} if devices > 1 else {}
    flags = {"XLA_FLAGS": f"{DEVICES}={devices} {QUICK}"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=ROOT,
        env={**own, **flags, **threads},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(*running: subprocess.Popen[str], status: int = 0) -> list[str]:
    """Waits for processes that must end in that way; what they printed."""
    said = [process.communicate(timeout=LIMIT)[0] for process in running]
    assert [process.returncode for process in running] == [status] * len(running), "\n".join(said)
    return said


def address() -> str:
    """Where process 0 can listen."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def step_of(folder: Path) -> int:
    """The last step that a run told of."""
    path = folder / "status.json"
    return json.loads(path.read_text()).get("step", 0) if path.exists() else 0


def wait_for(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until a run has taken a step."""
    until = time.monotonic() + LIMIT
    while step_of(folder) < step:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
