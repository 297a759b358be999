"""What an encoder is told of a scene."""

from asg_jax.train.data.scenes import COLORS, SHAPES, SIZES, Item, Scene
from asg_jax.train.pretrain.facts import FACTS, LEVELS, STEPS, facts


def test_every_cell_tells_its_own_item_and_all_tell_the_background():
    item = Item("square", "blue", cell=1, size="small", shift=(-2, 1))
    told = facts(Scene((item,), shade=55))
    assert told.shape == (2, 2, FACTS)
    names = [*SHAPES, *COLORS, *SIZES]
    own = told[0, 1]
    assert {names[n] for n in own[: len(names)].nonzero()[0]} == {"square", "blue", "small"}
    row, column = own[len(names) : -len(LEVELS)].reshape(2, len(STEPS)).sum(1)
    assert (row, column) == (0, 3)
    for cell in ((0, 0), (1, 0), (1, 1)):
        assert not told[cell][: -len(LEVELS)].any()
    levels = told[..., -len(LEVELS) :]
    assert (levels == levels[0, 0]).all() and levels[0, 0].sum() == sum(55 > n for n in LEVELS)
