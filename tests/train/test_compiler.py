"""What the compiler is told on a platform."""

import jax
import jax.numpy as jnp
import pytest

from asg_jax.train import compiler


def test_options_of_the_platform_of_the_first_call_reach_the_compiler(monkeypatch):
    told = []
    monkeypatch.setattr(compiler, "compiler_options", lambda platform: told.append(platform) or {})
    double = compiler.jit(lambda x: 2 * x)
    assert not told  # nothing is asked of devices while modules are imported
    assert double(jnp.arange(3)).tolist() == [0, 2, 4] and double(jnp.ones(2)).tolist() == [2, 2]
    assert told == [jax.default_backend()]


def test_an_option_that_xla_does_not_know_is_seen(monkeypatch):
    monkeypatch.setattr(compiler, "compiler_options", lambda _: {"xla_no_such_option": True})
    with pytest.raises(Exception, match="xla_no_such_option"):
        compiler.jit(lambda x: 2 * x)(jnp.arange(3))


def test_static_arguments_are_those_of_jit():
    assert compiler.jit(lambda n, x: x[:n], static_argnums=0)(2, jnp.arange(5)).shape == (2,)
