"""Whether a run fits devices that are not there, and what it takes on them at least."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import jax
from PIL import Image as Pillow

from asg_jax.errors import UserError
from asg_jax.models.registry import describe_model
from asg_jax.train.ahead.chips import Chip, topology
from asg_jax.train.ahead.programs import ProgramReport, measure
from asg_jax.train.evolve.config import RunConfig
from asg_jax.train.evolve.parts import check_sizes, held_as, make_method
from asg_jax.train.evolve.placement import MeshPlacement
from asg_jax.train.evolve.rehearsal import Rehearsable, Visit, device_bytes
from asg_jax.train.mesh import make_mesh

PICTURE = (640, 480)  # pixels, where the config leaves the size of pictures to the folder
COMPILERS = 2  # programs that are compiled at a time


@dataclass(frozen=True)
class Entry:
    """A program in a step.

    Attributes:
      phase: which kind of step runs the program.
      held: bytes of one device that earlier results of the step, and the program's batch, take.
      report: what the program takes.
    """

    phase: str
    held: int
    report: ProgramReport


@dataclass(frozen=True)
class Fit:
    """What a run takes on a topology; bytes are those of one device.

    Attributes:
      config: name of the run.
      method: name of the method.
      topology: as given to `chips.topology`.
      chip: what it consists of.
      mesh: sizes of the mesh's axes.
      base: bytes of the parameters.
      state: bytes of what the roles learn: factors, moments, averages.
      steps: steps that the whole run takes.
      cycle: steps of each phase in a cycle.
      entries: programs in the order of the steps; none where the parameters alone are too large.
    """

    config: str
    method: str
    topology: str
    chip: Chip
    mesh: dict[str, int]
    base: int
    state: int
    steps: int
    cycle: dict[str, int]
    entries: tuple[Entry, ...]

    @property
    def devices(self) -> int:
        """How many there are."""
        count = 1
        for size in self.mesh.values():
            count *= size
        return count

    @property
    def code(self) -> int:
        """Bytes of all programs, which stay loaded."""
        return sum({entry.report.name: entry.report.code for entry in self.entries}.values())

    def live(self, entry: Entry) -> int:
        """Bytes that are in use while a program runs, at most."""
        report = entry.report
        made = report.outputs - report.aliased + report.temporaries
        return self.base + self.state + self.code + entry.held + made

    @property
    def peak(self) -> int:
        """Bytes in use at the fullest moment."""
        return max(map(self.live, self.entries), default=self.base + self.state)

    @property
    def fits(self) -> bool:
        """Whether the compiler took every program and none needs more than there is."""
        refused = any(entry.report.error for entry in self.entries)
        return bool(self.entries) and not refused and self.peak <= self.chip.memory

    @property
    def advice(self) -> str:
        """One sentence: what to change where it does not fit."""
        if self.fits:
            return "The run fits."
        if not self.entries:
            gib = f"{(self.base + self.state) / 2**30:.1f} GiB"
            return (
                f"Parameters and role state alone take {gib} of {self.chip.memory / 2**30:.1f} GiB:"
                " take more devices, and let config.mesh.fsdp times config.mesh.tensor be larger."
            )
        worst = max(self.entries, key=lambda e: (bool(e.report.error), self.live(e)))
        if worst.report.error and worst.report.verdict == "does not compile":
            return f"{worst.report.name} does not compile: {worst.report.error.splitlines()[0]}"
        return (
            f"{worst.report.name} is the largest: let config.batch.micro be 1 and config.remat be"
            f" full, lower config.batch.{worst.phase}, or take more devices."
        )

    def seconds(self, phase: str) -> float:
        """The least time of a step: its programs one after the other."""
        return sum(entry.report.seconds for entry in self.entries if entry.phase == phase)

    def run_seconds(self, utilisation: float) -> float:
        """The time of the run.

        Args:
          utilisation: share of the peak (of operations or of bandwidth) that programs reach.
        """
        cycle = sum(steps * self.seconds(phase) for phase, steps in self.cycle.items())
        return self.steps / sum(self.cycle.values()) * cycle / utilisation


def fit(config: RunConfig, name: str, tell: Callable[[str], None]) -> Fit:
    """Compiles every program of a run for a topology.

    Args:
      config: the run's settings; its model need not be there (`describe_model`).
      name: which topology, see `chips.topology`.
      tell: is told what happens.

    Raises:
      UserError: the config cannot run on so many devices, whatever their size.
    """
    chip, devices = topology(name)
    mesh = make_mesh(config.mesh.fsdp, config.mesh.tensor, devices)
    check_sizes(config, MeshPlacement(mesh))
    if config.mesh.rollouts == "pmap":
        raise UserError("asg-jax fit knows config.mesh.rollouts=mesh only.")
    model = held_as(config, describe_model(config.model, config.dtype or None, mesh))
    visits: list[tuple[Visit, Future[ProgramReport]]] = []
    with ThreadPoolExecutor(COMPILERS) as pool:
        started: dict[int, Future[ProgramReport]] = {}

        def compile_it(visit: Visit) -> ProgramReport:
            label = f"{visit.phase}: {visit.name}"
            report = measure(label, visit.lowered, name, chip, mesh.size)
            tell(f"{label}: compiled in {report.compile_seconds:.0f} s")
            return report

        def meet(visit: Visit) -> None:
            lowered = id(visit.lowered)
            if lowered not in started:
                started[lowered] = pool.submit(compile_it, visit)
            visits.append((visit, started[lowered]))

        placement = Rehearsable(mesh, config.mesh.rollouts, model.family.rules)
        method = make_method(config, model, placement)
        known = device_bytes(model.base), device_bytes(placement.state(method, config))
        if sum(known) <= chip.memory:
            side = config.data.side
            picture = Pillow.new("RGB", (side, side) if side else PICTURE)
            placement.rehearse(method, config, picture, meet)
        entries = [Entry(v.phase, v.held, report.result()) for v, report in visits]
    return Fit(
        config=config.name,
        method=config.method.name,
        topology=name,
        chip=chip,
        mesh=dict(mesh.shape),
        base=known[0],
        state=known[1],
        steps=config.steps,
        cycle={phase.name: phase.steps for phase in method.phases},
        entries=tuple(entries),
    )


def plain(found: Fit, utilisation: float, price: float | None) -> dict[str, Any]:
    """All numbers for a JSON file, those that follow from others included."""
    entries = [
        asdict(entry) | {"live": found.live(entry), "verdict": entry.report.verdict}
        for entry in found.entries
    ]
    seconds = found.run_seconds(utilisation)
    hours = seconds * found.devices / 3600
    return asdict(found) | {
        "entries": entries,
        "code": found.code,
        "peak": found.peak,
        "fits": found.fits,
        "advice": found.advice,
        "step_seconds": {phase: found.seconds(phase) for phase in found.cycle},
        "utilisation": utilisation,
        "run_hours": seconds / 3600,
        "device_hours": hours,
        "price": price,
        "cost": None if price is None else hours * price,
        "jax": jax.__version__,
    }
