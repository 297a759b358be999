"""Requests to stop: noted, answered where it is safe, never lost."""

import os
import signal
import weakref

import pytest

from asg_jax.train.evolve.interruption import Interrupted, Interruption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_is_noted_and_answered_at_the_next_safe_place(number):
    interruption = Interruption()
    with interruption.listening():
        interruption.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as stop:
            interruption.check()
    assert stop.value.status == 128 + number


def test_a_request_in_a_finalizer_is_not_lost():
    class Thing:
        pass

    interruption, thing = Interruption(), Thing()
    keep = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with interruption.listening():
        del thing
    assert keep() is None and interruption.requested == signal.SIGTERM


def test_the_second_request_ends_the_process():
    interruption = Interruption()
    before = signal.getsignal(signal.SIGTERM)
    with interruption.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before
