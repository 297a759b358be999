"""The growth of memory is found where there is one."""

import numpy as np
import pytest

from tools.soak import MIB, fit, lines


@pytest.mark.parametrize("slope", [0.0, 5.0])
def test_the_slope_of_memory_is_found(slope):
    rng = np.random.default_rng(0)
    steps = np.arange(0, 2001, 2)
    start = 400 * np.minimum(steps / 200, 1)  # programs are loaded
    memory = (start + slope * steps / 1000 + rng.normal(0, 1, len(steps))) * MIB
    found = fit(list(zip(steps.tolist(), memory.tolist(), strict=True)))
    assert found["steps"] == 2000 and found["from_step"] == 400
    low, high = found["ci95"]
    assert low <= slope <= high and high - low < 0.5
    assert f"grows by {found['slope_mib_per_1000_steps']:+.2f} MiB" in "\n".join(lines(found))
