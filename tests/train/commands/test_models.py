"""`asg-jax models` and `asg-jax configs` name all that there is."""

from asg_jax.models.registry import shipped_models
from asg_jax.train.flags import config_files
from asg_jax.train.main import main


def test_models_are_listed_with_their_scores_and_words(capsys):
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    for name in shipped_models():
        assert f"  {name}" in told
    assert "answers 71, pictures 42" in told  # of bagel-tiny, as its scores.json has them
    assert "random:bagel-7b" in told and "triangle" in told


def test_configs_are_listed_with_what_they_do(capsys):
    assert main(["configs"]) == 0
    rows = capsys.readouterr().out.splitlines()
    for name in config_files():
        assert any(
            row.split()[:2] in ([name, "Self-evolves"], [name, "Pre-trains"]) for row in rows
        )
    assert any("METHOD" in row and "asg" in row for row in rows)
