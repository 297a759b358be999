"""Seeded damage to files, as disks, networks and interrupted copies do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]


def _span(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(len(data)))
    return start, min(len(data), start + int(rng.integers(1, 65)))


def _truncated(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def _flipped(data: bytes, rng: np.random.Generator) -> bytes:
    found = bytearray(data)
    for place in rng.integers(len(data), size=int(rng.integers(1, 4))):
        found[place] ^= 1 << int(rng.integers(8))
    return bytes(found)


def _zeroed(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def _swapped(data: bytes, rng: np.random.Generator) -> bytes:
    places = sorted(int(n) for n in rng.integers(len(data), size=3))
    a, b, c = places
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _lost(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _noise(data: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(1, 200)))


# Contents of other kinds of files under this one's name.
OTHERS: Sequence[bytes] = (
    *(b"", b"{}", b"[]", b"null", b'"text"', b"1e999", b"[" * 5000, b'{"a":' * 3000),
    *(b"\xff\xfe{\x00}\x00", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"PK\x03\x04", b"<html>"),
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
)


def _other(data: bytes, rng: np.random.Generator) -> bytes:
    return OTHERS[int(rng.integers(len(OTHERS)))]


KINDS: Sequence[Damage] = (_truncated, _flipped, _zeroed, _swapped, _lost, _noise, _other)


def damaged(data: bytes, seed: int, reach: int | None = None) -> bytes:
    """The content of a file after some accident.

    Args:
      data: the whole file.
      seed: gives kind and place of the damage.
      reach: only the first bytes are changed; the file may still lose its end.
    """
    rng = np.random.default_rng(seed)
    kind = KINDS[int(rng.integers(len(KINDS)))]
    if kind in (_truncated, _noise, _other) or reach is None:
        return kind(data, rng)
    return kind(data[:reach], rng) + data[reach:]
