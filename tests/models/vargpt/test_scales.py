"""Scale schedules: the official tables, token counts, positions."""

import numpy as np
import pytest

from asg_jax.errors import UserError
from asg_jax.models.vargpt.scales import TEMPLATES, Schedule, schedule

COUNTS = {  # tokens of a picture of 10 scales, by finest grid
    (32, 32): 2521,
    (35, 28): 2814,
    (36, 27): 2657,
    (39, 26): 2759,
    (42, 24): 2628,
    (46, 23): 2681,
    (50, 20): 2555,
    (54, 18): 2588,
}


@pytest.mark.parametrize("grid", COUNTS)
def test_token_counts_of_the_official_pictures(grid):
    assert schedule(TEMPLATES, 10, grid).length == COUNTS[grid]
    assert schedule(TEMPLATES, 10, grid[::-1]).length == COUNTS[grid]


def test_other_classes_cut_the_square_template_elsewhere():
    assert schedule(TEMPLATES, 7, (16, 16)).length == 521
    assert schedule(TEMPLATES, 13, (64, 64)).length == 10521


def test_every_template_has_a_transpose():
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 15
    assert {len(template) for template in TEMPLATES} == {13}
    for template in TEMPLATES:
        assert tuple(grid[::-1] for grid in template) in TEMPLATES


def test_an_unknown_grid_is_one_clear_line():
    with pytest.raises(UserError, match="33 x 32 image tokens.*32 x 32"):
        schedule(TEMPLATES, 10, (33, 32))


def test_positions_are_spread_over_the_largest_grid():
    """With one frequency each, the angles are the positions themselves: row, then column."""
    angles = Schedule(((1, 1), (2, 3)), (4, 9)).angles(2)
    assert angles.tolist() == [[0, 0], [0, 0], [0, 3], [0, 6], [2, 0], [2, 3], [2, 6]]


def test_positions_are_rounded_half_to_even_in_float32():
    """Row 27 of 54 on 111 positions: 55.5 in exact numbers."""
    found = schedule(TEMPLATES, 10, (54, 18))
    rows = found.angles(2)[found.part(9), 0].reshape(54, 18)[:, 0]
    product = np.float32(27) * np.float32(111 / 54)
    assert rows[27] == np.round(product) != np.round(27 * (111 / 54))
    square = schedule(TEMPLATES, 10, (32, 32))
    assert square.angles(2)[square.part(9), 1][:32].tolist() == list(range(0, 64, 2))


def test_tokens_know_their_scale_and_place():
    found = Schedule(((1, 1), (2, 1), (1, 3)), (1, 3))
    assert found.levels.tolist() == [0, 1, 1, 2, 2, 2]
    assert found.places.tolist() == [0, 0, 1, 0, 1, 2]
    assert (found.starts, found.part(2)) == ((0, 1, 3, 6), slice(3, 6))
