"""Kills runs at seeded moments, starts them again, compares their ends with those of unkilled ones.

python -m tools.kill_campaign --folder=runs/kills --kills=200
python -m tools.kill_campaign --folder=runs/kills --report=docs/reliability.md

The same command goes on where it was left. Its processes are forks of this one, which has imported
everything and touched no device: a start costs what it must, tracing, and no seconds of imports.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from asg_jax.errors import UserError
from asg_jax.train.commands import evolve
from asg_jax.train.evolve.checkpoints import FOLDER as CHECKPOINTS
from asg_jax.train.evolve.files import read_json, write_json
from asg_jax.train.evolve.learned import ADAPTERS
from asg_jax.train.evolve.replay import FOLDER as REPLAY
from asg_jax.train.evolve.run import PICTURE, SUMMARY
from asg_jax.train.flags import number, parse
from tools import tiny_run
from tools.finished import facts
from tools.report import put

USAGE = "usage: python -m tools.kill_campaign --folder=FOLDER [--kills=N] [--report=FILE]"
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
SHARES = (0.5, 0.25, 0.25)  # of the signals
# Places in a run folder at whose file operations a kill may strike; "moment" is any time.
AIMS = {
    "moment": "",
    "checkpoint": f"{CHECKPOINTS}/",
    "replay": f"{REPLAY}/",
    "end": rf"\.?after\.|{ADAPTERS}|\.?{SUMMARY}|\.?{PICTURE}",
}
EARLY = ("moment", "checkpoint", "replay")
OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
SOON = 0.4  # an early kill comes in this share of what a whole session does
FIRST, LAST = 4, 2  # kills of a run at most: so many early ones, then some at its end
PAIRED = 8  # every eighth run is of two processes, of which one has to compile at every start
DELAY = 0.03  # seconds at most between a file operation and the kill
LIMIT = 2 * 3600  # seconds of a session; longer is a fault
PARENT_DIED = 1  # PR_SET_PDEATHSIG
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Kill:
    """One accident.

    Attributes:
      run: which one it hits.
      number: which kill of its run.
      processes: how many share the run.
      victim: the process that is hit first; the others follow.
      signal: its name.
      aim: one of `AIMS`.
      share: part of the CPU time of a whole session, or of the file operations of its aim, before
        it.
      delay: seconds from the file operation to the kill.
    """

    run: int
    number: int
    processes: int
    victim: int
    signal: str
    aim: str
    share: float
    delay: float


def plan(seed: int, run: int, number: int) -> Kill:
    """The kill of that number; it depends on nothing else."""
    rng = np.random.default_rng([seed, run, number])
    early, processes = number < FIRST, processes_of(run)
    aim = str(rng.choice(EARLY)) if early else "end"
    moment = aim == "moment"
    return Kill(
        run=run,
        number=number,
        processes=processes,
        victim=int(rng.integers(processes)) if moment else 0,
        signal=str(rng.choice(SIGNALS, p=SHARES)),
        aim=aim,
        share=rng.random() * (SOON if early else 1),
        delay=0.0 if moment or rng.random() < 0.5 else rng.random() * DELAY,
    )


def processes_of(run: int) -> int:
    """How many processes share a run."""
    return 2 if run % PAIRED == 1 else 1


def watch(folder: Path, told: Callable[[str], None]) -> None:
    """Has this process tell the aim of every file operation in a run folder, before it happens."""
    aims = {name: re.compile(f"{re.escape(str(folder))}/({p})") for name, p in AIMS.items() if p}

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event in OPERATIONS:
            for name, pattern in aims.items():
                if pattern.match(str(arguments[0])):
                    told(name)

    sys.addaudithook(look)


def strike(kill: Kill, operations: int, mark: Path) -> Callable[[str], None]:
    """What hits this process at one of so many file operations of an aim, and leaves a mark."""
    left = [max(1, round(kill.share * operations))]

    def hit() -> None:
        mark.touch()
        os.kill(os.getpid(), getattr(signal, kill.signal))

    def told(aim: str) -> None:
        left[0] -= aim == kill.aim
        if left[0] == 0 and aim == kill.aim:
            threading.Timer(kill.delay, hit).start() if kill.delay else hit()

    return told


def fork(work: Callable[[], int | None], log: Path) -> int:
    """Starts a process that does some work and dies with this one; its id."""
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        status = work() or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        os._exit(status)


def address() -> str:
    """Where process 0 can listen."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def cpu_seconds(process: int) -> float:
    """That a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Campaign:
    """A folder with a model, two unkilled runs, and what became of the killed ones."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self._seed = folder.absolute(), seed
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log, self._mark = self.folder / "log.txt", self.folder / "struck"
        self._material, self._counts = self.folder / "material", self.folder / "counts.json"

    def known(self, name: str) -> list[dict[str, Any]]:
        """What was found of "kills" or of "runs"."""
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def tell(self, name: str, **facts: Any) -> None:
        """Adds something to it."""
        with (self.folder / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(facts) + "\n")

    def prepare(self, processes: int) -> None:
        """Makes the model, and the run that nobody kills, where they are missing."""
        if not self._material.exists():
            self._end([fork(lambda: tiny_run.make(self._material), self._log)])
        folder, told = self.folder / f"whole_{processes}", self._whole(processes)
        compiled = -1
        while not told.exists():  # the last of these has found all programs compiled
            shutil.rmtree(folder, ignore_errors=True)
            statuses, seconds = self.session(folder, processes)
            if any(statuses):
                raise UserError(f"the unkilled run ended with {statuses}; see {self._log}.")
            before, compiled = compiled, len(os.listdir(self.folder / "programs"))
            if compiled == before:
                counts = read_json(self._counts)
                write_json(told, {"moment": seconds, **counts, "facts": self.facts(folder)})

    def session(
        self, folder: Path, processes: int, kill: Kill | None = None
    ) -> tuple[list[int], float]:
        """Starts a run, or goes on with it, until it ends or is killed.

        Returns:
          The exit statuses of its processes (minus the signal that ended one), and the CPU seconds
          of the first.
        """
        self._mark.unlink(missing_ok=True)
        group = [f"--coordinator={address()}", f"--processes={processes}"] if processes > 1 else []
        lengths = read_json(self._whole(processes)) if kill else {}

        def work(n: int) -> int:
            counts = Counter[str]()
            if kill is None:
                watch(folder, lambda aim: counts.update([aim]))
            elif kill.aim != "moment" and n == kill.victim:
                watch(folder, strike(kill, lengths.get(kill.aim, 1), self._mark))
            words = [*group, f"--process={n}"] if group else []
            config = f"--config={tiny_run.__file__}:{self._material}"
            status = evolve.main([config, f"--workdir={folder}", *words])
            if group:  # what the end of an interpreter does, which a fork has not
                jax.distributed.shutdown()
            if kill is None and n == 0:
                write_json(self._counts, counts)
            return status

        with self._log.open("a") as file:
            file.write(f"== {folder.name}: {kill}\n")
        ids = [fork(lambda n=n: work(n), self._log) for n in range(processes)]
        return self._end(ids, kill, lengths.get("moment", 0.0))

    def _end(
        self, ids: list[int], kill: Kill | None = None, length: float = 0.0
    ) -> tuple[list[int], float]:
        """Waits for processes, and hits them where a kill says so."""
        statuses: dict[int, int] = {}
        seconds, due = 0.0, kill is not None and kill.aim == "moment"
        until = time.monotonic() + LIMIT
        while len(statuses) < len(ids):
            if ids[0] not in statuses:
                seconds = cpu_seconds(ids[0])
            if due and kill is not None and seconds >= kill.share * length:
                due = False
                self._mark.touch()
                os.kill(ids[kill.victim], getattr(signal, kill.signal))
            for process in [process for process in ids if process not in statuses]:
                found, status = os.waitpid(process, os.WNOHANG)
                if found:
                    statuses[process] = os.waitstatus_to_exitcode(status)
            if min(statuses.values(), default=0) < 0 or time.monotonic() > until:
                for process in [process for process in ids if process not in statuses]:
                    os.kill(process, signal.SIGKILL)  # as a scheduler ends the rest of a job
            time.sleep(0.05)
        return [statuses[process] for process in ids], seconds

    def go(self, kills: int) -> None:
        """Kills until there were so many, and goes on with the last run to its end."""
        while True:
            run, done = len(self.known("runs")), self.known("kills")
            own = [kill for kill in done if kill["run"] == run]
            if len(done) >= kills and not own:
                return
            self.prepare(processes_of(run))
            number = len(own)
            more = number < FIRST + LAST and len(done) < kills
            self._hit(run, plan(self._seed, run, number) if more else None)

    def _hit(self, run: int, kill: Kill | None) -> None:
        """One session of a run, and the comparison at its end."""
        folder, processes = self.folder / f"run_{run}", processes_of(run)
        statuses, seconds = self.session(folder, processes, kill)
        faults = []
        if kill is not None and self._mark.exists():
            number = getattr(signal, kill.signal)
            self.tell("kills", **asdict(kill), statuses=statuses, seconds=seconds, **where(folder))
            if statuses[kill.victim] != -number:
                faults = [status for status in statuses if status not in (0, 128 + number)]
        elif any(statuses):
            faults = statuses
        finished = (folder / SUMMARY).exists() and not any(statuses)
        if finished:
            whole, found = read_json(self._whole(processes))["facts"], self.facts(folder)
            faults += differences(whole, found)
        if finished or faults:
            self.tell("runs", run=run, processes=processes, faults=faults)
            if not faults:
                shutil.rmtree(folder)

    def facts(self, folder: Path) -> dict[str, str]:
        """Hashes of everything that a finished run consists of but times, by name."""
        path = self.folder / "facts.json"
        path.unlink(missing_ok=True)
        self._end([fork(lambda: write_json(path, dict(facts(folder))), self._log)])
        return read_json(path)

    def _whole(self, processes: int) -> Path:
        return self.folder / f"whole_{processes}.json"


def differences(whole: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Names of what differs between two finished runs.

    A stop saves the step where it stops, so that an older checkpoint, and pictures that it alone
    needs, may be there in one of both.
    """
    older = lambda name: re.match(r"\d+: |replay ", name) and (name in whole) != (name in found)
    names = sorted({*whole, *found})
    return [name for name in names if whole.get(name) != found.get(name) and not older(name)]


def where(folder: Path) -> dict[str, Any]:
    """What a run told last of where it stands."""
    path = folder / "status.json"
    status = read_json(path) if path.exists() else {}
    return {"state": status.get("state", "none"), "step": status.get("step", 0)}


def summary(campaign: Campaign) -> dict[str, Any]:
    """What the campaign has found."""
    kills, runs = campaign.known("kills"), campaign.known("runs")
    by = defaultdict[str, Counter[str]](Counter)
    for kill in kills:
        by[kill["aim"]][kill["signal"]] += 1
    of = lambda processes: sum(kill["processes"] == processes for kill in kills)
    return {
        "kills": len(kills),
        "of_one_process": of(1),
        "of_two_processes": of(2),
        "by_aim": {aim: dict(by[aim]) for aim in AIMS},
        "runs": len(runs),
        "equal": sum(not run["faults"] for run in runs),
        "faults": {str(run["run"]): run["faults"] for run in runs if run["faults"]},
        "cpu_seconds_per_kill": round(float(np.mean([k["seconds"] for k in kills])), 1)
        if kills
        else 0,
        "details": kills,
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The same as Markdown."""
    yield (
        f"{found['kills']} kills ({found['of_one_process']} of one process, "
        f"{found['of_two_processes']} of two that share a run) in {found['runs']} runs; "
        f"{found['equal']} of the runs ended in the bits of one that nobody killed."
    )
    yield ""
    yield f"| struck at | {' | '.join(SIGNALS)} |"
    yield "| --- " * (1 + len(SIGNALS)) + "|"
    titles = {"moment": "any moment", "end": "the end of the run"}
    for aim, counts in found["by_aim"].items():
        title = titles.get(aim, f"file operations of `{AIMS[aim]}`")
        yield f"| {title} | {' | '.join(str(counts.get(name, 0)) for name in SIGNALS)} |"
    if found["faults"]:
        yield ""
        yield "What differed: " + json.dumps(found["faults"])


def main() -> int:
    """Kills, or reports; the exit status is 1 if any run ended otherwise."""
    f = flags.FlagValues()
    flags.DEFINE_string("folder", None, "Of the campaign.", f, required=True)
    flags.DEFINE_string("report", None, "Markdown file to put the result into.", f)
    number(f, "kills", 200, "How many.", least=1)
    number(f, "seed", 0, "Of the moments.", least=0)
    if parse(f, sys.argv[1:], USAGE) is None:
        return 0
    campaign = Campaign(Path(f.folder), f.seed)
    if f.report is None:
        tiny_run.set_up(campaign.folder / "programs")
        campaign.go(f.kills)
    found = summary(campaign)
    if f.report:
        write_json(Path(f.report).with_name("kills.json"), found)
        put(Path(f.report), "kills", lines(found))
    print("\n".join(lines(found)))
    return int(bool(found["faults"]))


if __name__ == "__main__":
    sys.exit(main())
