"""bagel-tiny evolves: killed, shared by processes, spread over devices."""

import pytest

from tests.train.evolve.evolving import Evolving

pytestmark = pytest.mark.slow


class TestBagel(Evolving):
    config = "bagel_tiny"
    model = "bagel-tiny"
    mesh = {}
