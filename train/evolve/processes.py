"""Several processes as one run: joining them, and small facts that all of them must know."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Shaped

from asg_jax.engine.method import Kept
from asg_jax.errors import UserError

T = TypeVar("T")

# What launchers tell each process; JAX finds the rest by itself.
COUNTS = ("JAX_NUM_PROCESSES", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
HOSTS = ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")


def connect(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Joins the other processes of the run, if the arguments or the launcher name any.

    Args:
      coordinator: address "host:port" of process 0.
      processes: how many there are.
      process: which one this is.

    Raises:
      UserError: some of the three are given and others are missing.
    """
    given = (coordinator, processes, process)
    if None in given and given != (None, None, None):
        raise UserError("--coordinator, --processes and --process belong together; give all three.")
    if None not in given or is_one_of_several():
        _keep_messages_in_order()
        jax.distributed.initialize(*given)


def _keep_messages_in_order() -> None:
    """On CPUs, messages to other processes cross where programs or parts of one overlap."""
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        os.environ["NPROC"] = "1"  # threads of XLA, which accelerators compile with


def is_one_of_several() -> bool:
    """Whether a launcher started more than one process."""
    counts = (int(os.environ.get(name) or 1) for name in COUNTS)
    hosts = ("," in os.environ.get(name, "") for name in HOSTS)
    return any(count > 1 for count in counts) or any(hosts)


def leads() -> bool:
    """Whether this process writes the files of the run."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Waits until every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def gather(row: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "processes ..."]:
    """One array of every process, of one shape, in the order of the processes."""
    if jax.process_count() == 1:
        return np.asarray(row)[None]
    return np.asarray(multihost_utils.process_allgather(row))


def largest(number: int) -> int:
    """The largest of the numbers of all processes."""
    return int(gather(np.array(number, np.int32)).max())


def agree(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return bool(largest(flag))


def from_first(make: Callable[[], T]) -> T:
    """What process 0 makes, a JSON value, in every process; all must call it.

    Raises:
      UserError: process 0 did.
    """
    return json.loads(bytes_from_first(lambda: json.dumps(make()).encode()))


def bytes_from_first(make: Callable[[], bytes]) -> bytes:
    """See `from_first`."""
    if jax.process_count() == 1:
        return make()
    data = b""
    if leads():
        try:
            data = b"+" + make()
        except UserError as error:
            data = b"-" + str(error).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    sent = np.frombuffer(data.ljust(size), np.uint8)
    data = np.asarray(multihost_utils.broadcast_one_to_all(sent)).tobytes()
    if data[:1] == b"-":
        raise UserError(data[1:].decode())
    return data[1:]


def gather_kept(kept: Sequence[Kept], first: bool) -> list[Kept]:
    """The pictures of all processes, which are of one size; a process may have none.

    Args:
      kept: by this process.
      first: whether they count: no process before has the same examples.
    """
    if jax.process_count() == 1:
        return list(kept)
    kept = kept if first else []
    size = kept[0].pixels.shape[:2] if kept else (0, 0)
    facts = gather(np.array([len(kept), *size], np.int32))
    most, height, width = facts.max(0).tolist()
    if most == 0:
        return []
    pixels = np.zeros((most, height, width, 3), np.uint8)
    rewards = np.zeros(most, np.float32)
    for n, one in enumerate(kept):
        pixels[n], rewards[n] = one.pixels, one.reward
    rows = zip(facts[:, 0].tolist(), gather(pixels), gather(rewards).tolist(), strict=True)
    return [
        Kept(drawn, reward)
        for count, all_drawn, all_rewards in rows
        for drawn, reward in zip(all_drawn[:count], all_rewards[:count], strict=True)
    ]
