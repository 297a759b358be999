"""What a compiled program does, read from its text: bytes, operations and collectives.

XLA's own cost analysis counts the body of a loop once. Here a loop counts as often as it runs,
where the compiler knows how often; what a kernel cuts out of an array counts by the cut.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np

_BYTES = {"pred": 1, "bf16": 2, "f16": 2, "c64": 8, "c128": 16, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"(?P<kind>[a-z]+\d*\w*)\[(?P<sizes>[\d,<=]*)\](?P<layout>\{[^}]*\})?")
_LINE = re.compile(r"^\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)$")
_HEAD = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) (\(.*)?\{\s*$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_PLACE = re.compile(r"^get-tuple-element\(.*index=(\d+)")
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_SLICES = ("dynamic-slice", "slice", "gather")
_MOVES = (*_SLICES, "copy", "concatenate", "transpose", "pad")
_VIEWS = ("bitcast", "reshape", "get-tuple-element")
_FREE = (*_VIEWS, "parameter", "tuple", "constant", "after-all", "partition-id", "iota")


@dataclass(frozen=True)
class Array:
    """One array of an instruction's result."""

    kind: str
    sizes: tuple[int, ...]
    near: bool  # in a chip's fast memory, not in its main memory

    @property
    def bytes(self) -> int:
        digits = re.search(r"\d+", self.kind)
        width = _BYTES.get(self.kind) or (int(digits.group()) / 8 if digits else 0)
        return math.ceil(width * math.prod(self.sizes))

    @property
    def traffic(self) -> int:
        """Bytes that reading or writing it moves through main memory."""
        return 0 if self.near else self.bytes


@dataclass(frozen=True)
class Instruction:
    """One line of a program."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    text: str
    root: bool

    @property
    def traffic(self) -> int:
        return sum(array.traffic for array in self.arrays)


@dataclass
class Cost:
    """What running a computation once takes on one device.

    Attributes:
      read: bytes of main memory that kernels read.
      written: bytes of main memory that kernels write.
      flops: operations in matmuls and convolutions; a multiplication and an addition are two.
      collectives: bytes of the results of each kind of collective.
      counts: how often each kind runs.
      open_loops: whether a loop was met whose length only the data know; it counts as often as
        it may run at most, or once where the program does not say.
    """

    read: float = 0
    written: float = 0
    flops: float = 0
    collectives: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    open_loops: bool = False

    @property
    def bytes(self) -> float:
        return self.read + self.written

    def add(self, other: Cost, times: int = 1) -> None:
        self.read += times * other.read
        self.written += times * other.written
        self.flops += times * other.flops
        self.open_loops |= other.open_loops
        for kind in other.counts:
            self.collectives[kind] += times * other.collectives[kind]
            self.counts[kind] += times * other.counts[kind]


class Program:
    """The text of a compiled program as computations of instructions.

    Attributes:
      computations: instructions by name, in order, of every computation by name.
      entry: name of the computation that runs.
    """

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = self.computations.setdefault(head["name"], {})
                self.entry = head["name"] if head["entry"] else self.entry
            elif found := _LINE.match(line):
                current[found["name"]] = _instruction(found)
        self._costs: dict[str, Cost] = {}

    @cached_property
    def total(self) -> Cost:
        """The cost of the whole program."""
        return self.cost(self.entry)

    def cost(self, computation: str) -> Cost:
        """The cost of running a computation once."""
        if computation not in self._costs:
            total = Cost()
            table = self.computations[computation]
            for instruction in table.values():
                total.add(self._one(instruction, table))
            self._costs[computation] = total
        return self._costs[computation]

    def loops(self) -> list[Instruction]:
        """Every `while` of the program."""
        return [i for i in self.instructions() if i.opcode == "while"]

    def instructions(self) -> Iterable[Instruction]:
        """Every instruction of every computation."""
        return (i for table in self.computations.values() for i in table.values())

    def called(self, instruction: Instruction) -> list[str]:
        """Names of the computations that an instruction runs; of a loop condition, then body."""
        names = _CALLED.findall(instruction.text)
        for group in _BRANCHES.findall(instruction.text):
            names += [name.strip().lstrip("%") for name in group.split(",")]
        return [name for name in names if name in self.computations]

    def copied(self, computation: str) -> int:
        """Bytes of the largest array that a computation only moves: copied, cut out or joined.

        Loops inside it are looked into; a prefetch into fast memory is no copy.
        """
        largest, table = 0, self.computations[computation]
        for instruction in table.values():
            if instruction.opcode == "while":
                largest = max(largest, self.copied(self.called(instruction)[-1]))
            elif self._only_moves(instruction):
                largest = max(largest, self._traffic(instruction, table)[1])
        return largest

    def _only_moves(self, instruction: Instruction) -> bool:
        if instruction.opcode not in ("fusion", "fusion-start"):
            return instruction.opcode.removesuffix("-start") in _MOVES
        inner = self.computations[self.called(instruction)[0]].values()
        return all(self._only_moves(i) or i.opcode in _FREE for i in inner)

    def trips(self, loop: Instruction) -> int | None:
        """How often a `while` runs; None where only the data know."""
        if known := _TRIPS.search(loop.text):
            return int(known[1])
        condition = self.computations[self.called(loop)[0]]
        (root,) = (i for i in condition.values() if i.root)
        if root.opcode == "fusion":  # of the comparison alone
            inner = self.computations[self.called(root)[0]]
            (compared,) = (i for i in inner.values() if i.root)
        else:
            compared = root
        bounds = [n for i in condition.values() for n in re.findall(r"^constant\((\d+)\)", i.text)]
        if compared.opcode != "compare" or "direction=LT" not in compared.text or len(bounds) != 1:
            return None
        return math.ceil(int(bounds[0]) / self._stride(loop, condition))

    def _stride(self, loop: Instruction, condition: dict[str, Instruction]) -> int:
        """By how much a round moves the counter: a matmul that gathers its weight may take two."""
        places = {i.text: int(n) for i in condition.values() for n in _PLACE.findall(i.text)}
        body = self.computations[self.called(loop)[-1]]
        (root,) = (i for i in body.values() if i.root)
        if len(places) != 1 or root.opcode != "tuple":
            return 1
        (place,) = places.values()
        counter = body[root.operands[place]]
        steps = [
            int(n)
            for name in (counter.operands if counter.opcode == "add" else ())
            for n in re.findall(r"^constant\((\d+)\)", body[name].text)
        ]
        return steps[0] if len(steps) == 1 else 1

    def most_trips(self, loop: Instruction) -> int | None:
        """How often a `while` runs at most, where its condition compares a counter with a number.

        So the loop that draws tokens: it ends sooner once every text has ended.
        """
        names, known = [self.called(loop)[0]], list[Instruction]()
        while names:
            table = self.computations[names.pop()]
            known += table.values()
            names += [name for i in table.values() for name in self.called(i)]
        compared = [i for i in known if i.opcode == "compare" and "direction=LT" in i.text]
        whole = [i.text for i in known if i.arrays and i.arrays[0].kind in ("s32", "u32")]
        bounds = [int(n) for text in whole for n in re.findall(r"^constant\((\d+)\)", text)]
        return max(bounds) if compared and bounds else None

    def _one(self, instruction: Instruction, table: dict[str, Instruction]) -> Cost:
        cost, opcode = Cost(), instruction.opcode
        if opcode in _FREE or opcode.endswith("-done"):
            return cost
        if opcode == "while":
            trips = self.trips(instruction)
            cost.open_loops = trips is None
            for name in self.called(instruction):
                cost.add(self.cost(name), trips or self.most_trips(instruction) or 1)
            return cost
        if opcode in ("call", "async-start") or opcode == "conditional":
            costs = [self.cost(name) for name in self.called(instruction)]
            for part in costs if opcode != "conditional" else [max(costs, key=lambda c: c.bytes)]:
                cost.add(part)
            return cost
        cost.flops = self._flops(instruction, table)
        cost.read, cost.written = self._traffic(instruction, table)
        kind = opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            arrays = [a for a in instruction.arrays if a.sizes or opcode == kind]  # no counters
            if opcode != kind and len(arrays) > 1:
                arrays = arrays[len(arrays) // 2 :]  # what is sent comes first
            cost.collectives[kind], cost.counts[kind] = sum(a.bytes for a in arrays), 1
        return cost

    def _flops(self, instruction: Instruction, table: dict[str, Instruction]) -> float:
        if instruction.opcode in ("fusion", "fusion-start"):
            return sum(
                self._flops(inner, self.computations[name])
                for name in self.called(instruction)
                for inner in self.computations[name].values()
            )
        if instruction.opcode not in ("dot", "convolution"):
            return _library_flops(instruction, table)
        out = math.prod(instruction.arrays[0].sizes)
        left, right = (table[name].arrays[0].sizes for name in instruction.operands[:2])
        if instruction.opcode == "dot":
            axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.text)
            summed = [left[int(a)] for a in axes[1].split(",") if a] if axes else []
            return 2 * out * math.prod(summed)
        return _convolution_flops(instruction, left, right)

    def _traffic(self, instruction: Instruction, table: dict[str, Instruction]) -> tuple[int, int]:
        operands = [table[name] for name in instruction.operands if name in table]
        opcode = instruction.opcode
        if opcode in ("fusion", "fusion-start"):
            return self._fused(instruction, operands)
        if opcode in _SLICES:
            cut = instruction.arrays[0]
            return 0 if operands[0].arrays[0].near else cut.bytes, cut.traffic
        if opcode in (
            "slice-start",
            "copy-start",
        ):  # the latter names its result first
            result = instruction.arrays[opcode == "slice-start"]
            return 0 if operands[0].arrays[0].near else result.bytes, result.traffic
        if opcode == "dynamic-update-slice":
            update = operands[1].arrays[0]
            return update.traffic, update.bytes
        read = sum(operand.traffic for operand in operands)
        return read, sum(array.traffic for array in _results(instruction, instruction.arrays))

    def _fused(self, instruction: Instruction, operands: list[Instruction]) -> tuple[int, int]:
        inner = self.computations[self.called(instruction)[0]]
        parameters = _parameters(inner)
        read = 0
        for index, operand in enumerate(operands):
            near = all(array.near for array in operand.arrays)
            read += 0 if near else self._used(parameters[index], inner)
        (root,) = (i for i in inner.values() if i.root)
        roots = [inner[n] for n in root.operands] if root.opcode == "tuple" else [root]
        written = 0
        for part in roots:
            arrays = part.arrays
            while part.opcode in _VIEWS:
                part = inner[part.operands[0]]
            if part.opcode == "dynamic-update-slice":  # in place
                arrays = () if arrays[0].near else inner[part.operands[1]].arrays
            written += sum(array.traffic for array in _results(part, arrays))
        return read, written

    def _used(self, source: Instruction, table: dict[str, Instruction]) -> int:
        """Bytes of an array that a fused computation reads."""
        whole = source.arrays[0].bytes
        total = whole if source.root else 0
        for user in _users(source.name, table):
            first = user.operands[0] == source.name
            if user.opcode in _VIEWS:
                total += self._used(user, table)
            elif user.opcode == "fusion":
                inner = self.computations[self.called(user)[0]]
                places = [n for n, name in enumerate(user.operands) if name == source.name]
                for parameter in (_parameters(inner)[n] for n in places):
                    view = _only_viewed(parameter, inner)
                    total += self._used(user, table) if view else self._used(parameter, inner)
            elif user.opcode in _SLICES and first:
                total += user.arrays[0].bytes
            elif not (user.opcode == "dynamic-update-slice" and first):
                return whole
        return min(total, whole)


def _results(instruction: Instruction, arrays: tuple[Array, ...]) -> list[Array]:
    """Arrays without the workspace, in bytes, that a library call returns beside its result."""
    return [a for a in arrays if instruction.opcode != "custom-call" or a.kind != "s8"]


def _only_viewed(source: Instruction, table: dict[str, Instruction]) -> bool:
    """Whether a computation returns an array as it is."""
    users = _users(source.name, table)
    return (
        source.root
        or bool(users)
        and all(user.opcode in _VIEWS and _only_viewed(user, table) for user in users)
    )


def _parameters(table: dict[str, Instruction]) -> dict[int, Instruction]:
    numbered = ((i, re.match(r"parameter\((\d+)\)", i.text)) for i in table.values())
    return {int(match[1]): i for i, match in numbered if match}


def _users(name: str, table: dict[str, Instruction]) -> list[Instruction]:
    return [i for i in table.values() if name in i.operands]


def _convolution_flops(
    instruction: Instruction, left: tuple[int, ...], right: tuple[int, ...]
) -> float:
    """A TPU writes every matmul as a convolution, batch axes as positions of a dilated window."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.text)
    assert labels is not None
    source, kernel, target = labels.groups()
    out = instruction.arrays[0].sizes
    window = re.search(r"window=\{([^}]*)\}", instruction.text)
    fields = dict(f.split("=") for f in window[1].split()) if window else {}
    flops = 2 * out[target.index("b")] * out[target.index("f")] * right[kernel.index("i")]
    for axis in range(sum(letter.isdigit() for letter in kernel)):
        number = lambda name, axis=axis: int(fields[name].split("x")[axis]) if name in fields else 1
        low = int(fields["pad"].split("x")[axis].split("_")[0]) if "pad" in fields else 0
        size, digit = right[kernel.index(str(axis))], str(axis)
        starts = np.arange(out[target.index(digit)]) * number("stride") - low
        places = starts[:, None] + np.arange(size) * number("rhs_dilate")
        step = number("lhs_dilate")
        end = (left[source.index(digit)] - 1) * step
        flops *= int(((places >= 0) & (places <= end) & (places % step == 0)).sum())
    groups = re.search(r"batch_group_count=(\d+)", instruction.text)
    return flops / int(groups[1] if groups else 1)


def _library_flops(instruction: Instruction, table: dict[str, Instruction]) -> float:
    """Operations of a matmul that became a library call."""
    if instruction.opcode != "custom-call" or "lhs_contracting_dimensions" not in instruction.text:
        return 0
    axes = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.text)
    left = table[instruction.operands[0]].arrays[0].sizes
    summed = [left[int(a.strip('" '))] for a in axes[1].split(",") if a.strip('" ')] if axes else []
    return 2 * math.prod(instruction.arrays[0].sizes) * math.prod(summed)


def _instruction(found: re.Match[str]) -> Instruction:
    rest = found["rest"]
    shape, rest = _until_balanced(rest) if rest.startswith("(") else rest.split(" ", 1)
    opcode, _, arguments = rest.partition("(")
    inside = _until_balanced("(" + arguments)[0]
    names = tuple(re.findall(r"%([\w.\-]+)", inside))
    arrays = tuple(_arrays(shape))
    return Instruction(
        found["name"], opcode.strip(), arrays, names, rest, found["root"] is not None
    )


@cache
def _arrays(shape: str) -> tuple[Array, ...]:
    def sizes(text: str) -> tuple[int, ...]:
        return tuple(int(n.lstrip("<=")) for n in text.split(",") if n)

    return tuple(
        Array(m["kind"], sizes(m["sizes"]), bool(re.search(r"S\([1-9]", m["layout"] or "")))
        for m in _ARRAY.finditer(re.sub(r"/\*.*?\*/", "", shape))
    )


def _until_balanced(text: str) -> tuple[str, str]:
    """The leading parenthesised part of a text, and what follows it."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[: place + 1], text[place + 1 :].lstrip()
    return text, ""
