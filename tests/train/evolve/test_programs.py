"""The cache of compiled programs after a kill."""

import os
import warnings
import zlib

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from asg_jax.train.evolve import programs
from asg_jax.train.evolve.programs import CHECKED, mend


@pytest.fixture
def cache(tmp_path):
    """A cache of JAX's own, for programs of any size."""
    changes = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in changes}
    for name, value in changes.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def entries(folder):
    return sorted(folder.glob("*-cache"))


@pytest.mark.slow
def test_a_torn_program_is_compiled_and_kept_again(cache):
    def start():
        jax.clear_caches()
        return float(jax.jit(lambda x: x * 3 + 1)(jnp.float32(2)))

    assert start() == 7
    whole = {path: path.read_bytes() for path in entries(cache)}
    assert whole
    for path, data in whole.items():
        path.write_bytes(data[: len(data) // 2])
    programs.keep_programs()
    assert entries(cache) == []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert start() == 7
    assert [str(one.message) for one in told] == []
    assert entries(cache) == sorted(whole)


@pytest.mark.parametrize("torn", [b"", zlib.compress(b"x" * 99)[:-3], b"\0" * 512])
def test_entries_are_looked_at_once(tmp_path, torn):
    good, bad = tmp_path / "jit_a-1-cache", tmp_path / "jit_b-2-cache"
    good.write_bytes(programs.compilation_cache.compress_executable(b"program"))
    bad.write_bytes(torn)
    mend(tmp_path)
    assert entries(tmp_path) == [good] and (tmp_path / CHECKED).exists()
    bad.write_bytes(torn)
    os.utime(bad, (1, 1))
    mend(tmp_path)
    assert entries(tmp_path) == [good, bad]  # not read again
    bad.touch()
    mend(tmp_path)
    assert entries(tmp_path) == [good]


def test_a_run_starts_without_its_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "file"))
    programs.keep_programs()
    jax.config.update("jax_compilation_cache_dir", before)
