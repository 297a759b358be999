"""Several processes as one run: joining them, and small facts that all of them must know."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import count as counting
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed  # the coordinator has no public name
from jaxtyping import Shaped

from asg_jax.engine.method import Kept
from asg_jax.errors import UserError

T = TypeVar("T")

# What launchers tell each process; JAX finds the rest by itself.
COUNTS = ("JAX_NUM_PROCESSES", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
AUTO = "auto"
PATIENCE = 7 * 24 * 3_600_000  # milliseconds; a process that died is noticed much earlier
_ROUNDS = counting()
HOSTS = ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")


def connect(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Joins the other processes of the run, if the arguments or the launcher name any.

    Args:
      coordinator: address "host:port" of process 0; "auto" where JAX can find out all three, as in
        a Cloud TPU pod.
      processes: how many there are.
      process: which one this is.

    Raises:
      UserError: some of the three are given and others are missing.
    """
    found_out = coordinator == AUTO
    given = (None if found_out else coordinator, processes, process)
    if None in given and given != (None, None, None):
        raise UserError("--coordinator, --processes and --process belong together; give all three.")
    if found_out or None not in given or is_one_of_several():
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


def gather_bytes(data: bytes) -> list[bytes]:
    """What every process has to say, in their order; all must call it.

    It goes through the coordinator, as devices may be busy with the step that was begun last.
    """
    count, own = jax.process_count(), jax.process_index()
    if count == 1:
        return [data]
    client, number = distributed.global_state.client, next(_ROUNDS)
    assert client is not None  # `connect` made it
    key = lambda number, process: f"asg_jax/{number}/{process}"
    client.key_value_set_bytes(key(number, own), b"+" + data)  # none is empty
    found = [client.blocking_key_value_get_bytes(key(number, p), PATIENCE) for p in range(count)]
    if number:  # every process is in this round, and has read the one before
        client.key_value_delete(key(number - 1, own))
    return [one[1:] for one in found]


def wait() -> None:
    """Waits until every process has come here."""
    gather_bytes(b"")


def gather(row: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "processes ..."]:
    """One array of every process, of one shape, in the order of the processes."""
    row = np.asarray(row)
    rows = [np.frombuffer(one, row.dtype) for one in gather_bytes(row.tobytes())]
    return np.stack(rows).reshape(len(rows), *row.shape)


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
    data = b""
    if leads():
        try:
            data = b"+" + make()
        except UserError as error:
            data = b"-" + str(error).encode()
    data = gather_bytes(data)[0]
    if data[:1] == b"-":
        raise UserError(data[1:].decode())
    return data[1:]


def gather_kept(kept: Sequence[Kept], first: bool) -> list[Kept]:
    """The kept pictures of all processes; a process may have none.

    Args:
      kept: what this process keeps.
      first: whether they count: no process before has the same examples.
    """
    if jax.process_count() == 1:
        return list(kept)
    file, kept = BytesIO(), kept if first else []
    drawn: dict[str, Any] = {f"pixels{n}": one.pixels for n, one in enumerate(kept)}
    np.savez(file, rewards=[one.reward for one in kept], **drawn)
    found = []
    for data in gather_bytes(file.getvalue()):
        with np.load(BytesIO(data)) as arrays:
            rewards = arrays["rewards"].tolist()
            found += [Kept(arrays[f"pixels{n}"], reward) for n, reward in enumerate(rewards)]
    return found
