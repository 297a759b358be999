"""Settings that do not fit are refused, with a word on what to change; ablations change one."""

from dataclasses import fields, replace
from typing import Any

import pytest

from asg_jax.backbone import Sampler
from asg_jax.engine.roles import DrawingRole, TextRole
from asg_jax.errors import UserError
from asg_jax.methods.asg import ABLATIONS, Settings
from asg_jax.methods.asg.settings import Temperatures, check, two_stage
from asg_jax.objectives.drawings import BitsGRPO, DrawingObjective, FlowGRPO
from asg_jax.objectives.texts import Imitation
from asg_jax.train.evolve.typed import changed

STOCHASTIC = Sampler(grid=(4, 4), guidance=1.0, noise_level=0.7)
CHANGES = {name: one for name, one in ABLATIONS.items() if isinstance(one, dict)}
OBJECTIVES = [one() for one in DrawingObjective.__args__]


def drawing(objective: DrawingObjective, **changes) -> Settings:
    """The paper's settings with another objective of the Generator."""
    full = Settings()
    return replace(full, generator=replace(full.generator, objective=objective), **changes)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (drawing(FlowGRPO()), "noise_level"),
        (drawing(FlowGRPO(), sampler=replace(STOCHASTIC, guidance=4.0)), "guidance"),
        (Settings(temperatures=Temperatures(answer=0.0)), "temperatures.answer"),
        (Settings(temperatures=Temperatures(question=0.0)), "temperatures.question"),
        (Settings(candidates=0), "config.method.candidates is 0"),
        (Settings(images=0), "config.method.images is 0"),
        (Settings(solver=TextRole(float("nan"))), "solver.learning_rate is nan"),
        (Settings(generator=DrawingRole(rank=0)), "generator.rank is 0"),
        (Settings(questions=1), "questions is 1"),
        (Settings(questions=4), "questions is 4"),
        (Settings(understanding_steps=0, generation_steps=0), "cycle"),
        (Settings(weights={"beauty": 1.0}), "weights.beauty is no signal; known are vote_fid"),
        (Settings(weights={"diversity": 0.0}), "weights gives no signal a weight"),
        (Settings(question_weights={"depth": 1.0}), "question_weights.depth is no signal"),
    ],
)
def test_misfits_are_refused(settings: Settings, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(settings, "flow")


@pytest.mark.parametrize("steps", [(1, 0), (0, 1)])
def test_a_cycle_of_one_step_passes(steps: tuple[int, int]) -> None:
    check(Settings(understanding_steps=steps[0], generation_steps=steps[1]), "flow")


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda one: one.name)
def test_objectives_train_their_kinds_only(objective: DrawingObjective) -> None:
    settings = drawing(objective, sampler=STOCHASTIC)
    for kind in ("flow", "bits"):
        if kind in objective.kinds:
            check(settings, kind)
            continue
        with pytest.raises(UserError, match=f"'{objective.name}' does not train .* '{kind}'; choo"):
            check(settings, kind)


def test_bits_are_learned_from_as_they_were_drawn() -> None:
    plain = drawing(BitsGRPO(), sampler=STOCHASTIC)
    check(replace(plain, sampler=replace(STOCHASTIC, guidance=3.0, temperature=0.5)), "bits")
    with pytest.raises(UserError, match=r"set sampler.top_p to 1\."):
        check(replace(plain, sampler=replace(STOCHASTIC, top_p=0.9)), "bits")


@pytest.mark.parametrize("name", CHANGES)
def test_an_ablation_changes_what_it_names_and_nothing_else(name: str) -> None:
    full = Settings(candidates=5)
    varied = changed(full, CHANGES[name])
    check(varied, "flow")
    heads = {path.partition(".")[0] for path in CHANGES[name]}
    for field in fields(Settings):
        same = getattr(full, field.name) == getattr(varied, field.name)
        assert same == (field.name not in heads), field.name


def test_a_run_on_one_phase_takes_no_step_of_the_other() -> None:
    shares = lambda name: phases(changed(Settings(), CHANGES[name]))
    assert shares("understanding_only") == {"understanding"}
    assert shares("generation_only") == {"generation"}


def phases(settings: Settings) -> set[str]:
    """Those that take steps."""
    taken = {
        "understanding": settings.understanding_steps,
        "generation": settings.generation_steps,
    }
    return {name for name, steps in taken.items() if steps}


def test_the_imitating_run_imitates_in_every_role() -> None:
    varied = changed(Settings(), CHANGES["sft"])
    roles: list[Any] = list(varied.roles.values())
    assert all(role.objective.imitates for role in roles)
    assert isinstance(varied.solver.objective, Imitation)


def test_two_stages_take_the_steps_of_a_run_in_the_same_shares() -> None:
    varied = two_stage(Settings(), 50)
    assert (varied.understanding_steps, varied.generation_steps) == (30, 20)
    assert replace(varied, understanding_steps=3, generation_steps=2) == Settings()
