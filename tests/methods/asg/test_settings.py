"""Settings that do not fit are refused, with a word on what to change; ablations change one."""

from dataclasses import replace

import pytest

from asg_jax.backbone import Sampler
from asg_jax.errors import UserError
from asg_jax.methods.asg import ABLATIONS, Settings, ablation
from asg_jax.methods.asg.settings import OBJECTIVES, Role, Temperatures, check

STOCHASTIC = Sampler(grid=(4, 4), guidance=1.0, noise_level=0.7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "flow_grpo"}, "noise_level"),
        ({"objective": "flow_grpo", "sampler": replace(STOCHASTIC, guidance=4.0)}, "guidance"),
        ({"temperatures": Temperatures(answer=0.0)}, "temperatures.answer"),
        ({"temperatures": Temperatures(question=0.0)}, "temperatures.question"),
        ({"candidates": 0}, "candidates is 0"),
        ({"images": 0}, "images is 0"),
        ({"questions": 1}, "questions is 1"),
        ({"questions": 4}, "questions is 4"),
        ({"understanding_steps": 0, "generation_steps": 0}, "cycle"),
    ],
)
def test_misfits_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(replace(Settings(), **changes), "flow")


@pytest.mark.parametrize(
    ("objective", "kind"), [(name, kind) for kind, names in OBJECTIVES.items() for name in names]
)
def test_objectives_train_their_kind_only(objective, kind) -> None:
    settings = Settings(objective=objective, sampler=STOCHASTIC)
    check(settings, kind)
    other = {"flow": "bits", "bits": "flow"}[kind]
    with pytest.raises(UserError, match=f"'{objective}' does not train .* '{other}'; choose one"):
        check(settings, other)


@pytest.mark.parametrize("change", [{"guidance": 3.0}, {"temperature": 0.5}, {"top_p": 0.9}])
def test_bits_are_learned_from_as_they_were_drawn(change: dict) -> None:
    plain = Settings(objective="grpo", sampler=STOCHASTIC)
    with pytest.raises(UserError, match=r"set sampler.guidance, .* to 1\."):
        check(replace(plain, sampler=replace(STOCHASTIC, **change)), "bits")


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_what_it_names_and_nothing_else(name: str) -> None:
    full = Settings(solver=Role(3e-4, rank=8), candidates=5)
    changed = ablation(full, name)
    check(changed, "flow")
    (path, value), *rest = ABLATIONS[name].items()
    head, _, tail = path.partition(".")
    assert not rest and getattr(full, head) != getattr(changed, head)
    assert (getattr(getattr(changed, head), tail) if tail else getattr(changed, head)) == value
    assert replace(changed, **{head: getattr(full, head)}) == full


def test_unknown_ablations_are_refused() -> None:
    with pytest.raises(UserError, match="'no_such'.*no_ste"):
        ablation(Settings(), "no_such")
