"""The verifier that lets the model write questions about drawings, and answer them."""

import numpy as np
from jax import numpy as jnp

from asg_jax.engine.texts import Scribe
from asg_jax.prompts import LANGUAGES
from asg_jax.train.evolve.learned import open_roles
from asg_jax.train.verifying import Verifier

SAID = [
    ["<think_start>Red? yes; A kite? no<think_end>", "<think_start>Red? yes<think_end>"],
    ["nothing that asks", "Is it a cup? yes; Is it blue? yes; Two? no"],
]


def test_thoughts_score_the_drawing_that_they_are_about(monkeypatch):
    """Every drawing of every prompt; the words are ours, what they answer to the model's."""
    model, roles = open_roles("bagel-tiny")
    told, heard = [], []
    tell, hear = Scribe.tell, Scribe.hear
    monkeypatch.setattr(Scribe, "tell", lambda s, rows: told.append(rows) or tell(s, rows))
    monkeypatch.setattr(Scribe, "hear", lambda s, texts: heard.append(hear(s, texts)) or SAID)
    verifier = Verifier(model, roles["solver"], LANGUAGES["english"], "cotv", (4, 4), 8)
    drawn = np.random.default_rng(0).random((2, 2, 32, 32, 3)).astype(np.float32)
    scores = verifier(["a red kite", "a blue cup"], jnp.asarray(drawn))
    np.testing.assert_allclose(scores, [[1 / 2, 1], [0, 2 / 3]])
    assert [("a red kite" in row[0], "a blue cup" in row[0]) for row in told[0]] == [
        (True, False),
        (False, True),
    ]
    assert np.shape(heard[0]) == (2, 2)  # what the model said of each
