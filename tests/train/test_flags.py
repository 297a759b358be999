"""`--config`: named runs and files, fields changed on the command line, one line for mistakes."""

import pytest
from absl import flags

from asg_jax.errors import UserError
from asg_jax.train.flags import define_config, load_config, parse

RUN = """
from ml_collections import ConfigDict


def get_config():
    return ConfigDict({"seed": 1, "rate": 0.5, "part": {"on": True, "span": (0.0, 1.0)}})
"""


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run.py"
    path.write_text(RUN)
    return path


def parsed(*argv: str, default: str = "bagel_tiny", words: int = 0):
    f = flags.FlagValues()
    flags.DEFINE_string("model", None, "Of the command.", f)
    define_config(f, default)
    return f, parse(f, argv, "usage", words)


def test_a_file_is_read_and_its_fields_are_changed(run) -> None:
    f, rest = parsed(
        *(f"--config={run}", "--config.seed=3", "--config.rate", "2", "word", "--model=m"),
        *("--noconfig.part.on", "--config.part.span=(0.25, 0.75)"),
        words=1,
    )
    assert f.config.to_dict() == {
        "seed": 3,
        "rate": 2.0,
        "part": {"on": False, "span": (0.25, 0.75)},
    }
    assert (f.model, rest) == ("m", ["word"])
    with pytest.raises(AttributeError):
        f.config.sede = 1  # it is locked


def test_a_run_has_a_name_or_the_path_that_it_has_in_the_checkout(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)  # nothing of that name lies there
    for name in ("bagel_tiny", "configs/bagel_tiny.py", "bagel_tiny.py"):
        assert load_config(name) == load_config("bagel_tiny")
    f, _ = parsed("--config.eval.seed=7")
    assert f.config.eval.seed == 7
    assert parsed()[0].config.eval.seed == 0  # each parse has a config of its own


def test_the_last_config_wins_wherever_it_stands(run) -> None:
    f, _ = parsed("--config.seed=3", "--config=bagel_tiny", f"--config={run}")
    assert f.config.seed == 3


@pytest.mark.parametrize(
    "word, message",
    [
        ("--config.sede=3", "the config has no field 'sede'; did you mean 'seed'?"),
        ("--config.prt.on=true", "the config has no field 'prt'; did you mean 'part'?"),
        ("--config.part.width=3", "no field 'part.width'; known are on, span."),
        ("--noconfig.part.off", "no field 'part.off'; "),
        ("--config.seed.of=3", "no field 'seed.of', for 'seed' has none."),
        ("--config.part.span[2]=3", "no field 'part.span[2]'; 'span' has 0, 1."),
        ("--config.seed[0]=3", "no field 'seed[0]'; 'seed' has no places."),
        ("--config.part=3", "--config.part has fields; set one of them"),
        ("--config.seed=three", "--config.seed=three"),
        ("--config.seed", "Missing value"),
        ("--confg=x", "Did you mean: config"),
        ("--config=bagel_tny", "there is no config 'bagel_tny'; did you mean 'bagel_tiny'?"),
        ("--config=/no/such/file.py", "there is no config '/no/such/file.py'; known are"),
        ("--config=", "there is no config ''"),
    ],
)
def test_mistakes_are_one_line(run, word, message) -> None:
    with pytest.raises(UserError) as error:
        parsed(f"--config={run}", word)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", ["def get_config(", "import no_such_module", "x = 1", "def get_config(name): ..."]
)
def test_a_file_that_does_not_load_is_refused(tmp_path, content) -> None:
    path = tmp_path / "broken.py"
    path.write_text(content)
    with pytest.raises(UserError, match="does not load"):
        load_config(str(path))
    text = tmp_path / "text"
    text.write_text(RUN)
    with pytest.raises(UserError, match="ends in .py"):
        load_config(str(text))


def test_help_prints_the_flag_and_parses_nothing(capsys) -> None:
    assert parsed("--help", "--config=nothing")[1] is None
    assert "bagel_tiny" in capsys.readouterr().out


def test_a_config_takes_several_words():
    mesh = lambda name: load_config(name).to_dict()["mesh"]
    assert (mesh("bagel_7b:asg:v5e-64")["fsdp"], mesh("bagel_7b:asg:v5e-64")["tensor"]) == (16, 4)
    assert mesh("vargpt_v11:asg:h200")["fsdp"] == 1
    with pytest.raises(UserError, match="no devices 'abacus'; it has v5e-16, "):
        load_config("blip3o_8b:asg:abacus")
