"""Words that a model never learned are named once; what it knows is left alone."""

import pytest

from asg_jax.models.registry import model_folder, open_model
from asg_jax.train.words import unlearned, warn_of_unlearned


@pytest.fixture(scope="module")
def processor():
    return open_model("bagel-tiny").processor


def test_unknown_words_are_found_in_order_and_known_ones_are_not(processor):
    assert unlearned(processor, "what color is the circle?") == []
    asked = "is the red dog below a dog, or a Circle?"
    assert unlearned(processor, asked) == ["dog", "dog,", "or", "Circle?"]


@pytest.mark.slow
def test_a_model_that_reads_bytes_knows_every_word():
    processor = open_model("random:blip3o-4m").processor
    assert unlearned(processor, "Grüße, e\u0301 🎈") == []


def test_the_warning_is_one_line_on_stderr(processor, capsys):
    warn_of_unlearned(processor, "a red circle")
    assert capsys.readouterr().err == ""
    warn_of_unlearned(processor, "a dog")
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "'dog'" in printed.err


def test_models_of_our_pretraining_speak_of_scenes(tmp_path):
    model = open_model("bagel-tiny")
    assert model.language == "scenes"
    assert open_model(str(model_folder("vargpt-tiny"))).language == "scenes"
    assert open_model("random:blip3o-4m").language == "english"
