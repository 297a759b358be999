"""A model under lmms-eval, the field's own tool for benchmarks of understanding.

The Solver answers, greedily unless a task samples. lmms-eval has its own dependencies (torch among
them), so it is imported where it is used: `pip install "asg-jax[lmms]"`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from PIL.Image import Image as Picture

from asg_jax.errors import UserError
from asg_jax.train.asking import ask
from asg_jax.train.opened import OpenModel

NAME = "asg_jax"  # by which tasks may choose the wording of their questions
MOST_TOKENS = 128  # of an answer, where a task does not say
KEPT = ("doc_id", "target", "filtered_resps")  # of every sample


class Examinee:
    """What lmms-eval asks of a model; see `lmms_eval.api.model.lmms`.

    Attributes:
      model: whose Solver answers.
      task_dict: documents by task, split and number; lmms-eval fills it.
    """

    task_dict: dict[str, Any]

    def __init__(self, model: OpenModel):
        super().__init__()
        self.model = model

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answer to every question."""
        return [self._answer(*request.args) for request in requests]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Of every answer, nats per token that it costs, and whether it is the greedy one.

        lmms-eval takes the answer that costs least. All answers to one question are scored at once.
        """
        found: list[tuple[float, bool]] = []
        key = lambda args: (args[0], args[3:])  # the question, and where its document stands
        for _, group in groupby((request.args for request in requests), key):
            found += self._costs(list(group))
        return found

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuses: only single questions are answered."""
        raise UserError(
            f"{requests[0].args[4]} goes over several rounds; choose tasks of single questions."
        )

    def _answer(
        self,
        question: str,
        settings: Mapping[str, Any],
        show: Callable[[Any], Any],
        number: int,
        task: str,
        split: str,
    ) -> str:
        temperature = float(settings.get("temperature") or 0) if settings.get("do_sample") else 0.0
        pictures = self._pictures(show, number, task, split)
        most = int(settings.get("max_new_tokens") or MOST_TOKENS)
        (answer,), _ = ask(
            self.model,
            pictures,
            [question],
            [temperature],
            params=self.model.roles["solver"],
            max_tokens=most,
            seed=number,
        )
        stops = settings.get("until") or ()
        for stop in [stops] if isinstance(stops, str) else stops:
            answer = answer.split(stop)[0]
        return answer

    def _costs(self, group: Sequence[tuple[Any, ...]]) -> Iterator[tuple[float, bool]]:
        """Of the answers to one question."""
        question, _, show, number, task, split = group[0]
        document = self.task_dict[task][split][number]
        targets = (args[1](document) if callable(args[1]) else args[1] for args in group)
        answers = [str(target).strip() for target in targets]
        pictures = self._pictures(show, number, task, split)
        if len(pictures) != 1:
            raise UserError(
                f"{task} compares answers about {len(pictures)} pictures at once; choose tasks that"
                " compare answers about one."
            )
        told = self.model.score(pictures[0], question, answers)
        lengths = [len(self.model.processor.ids(answer)) + 1 for answer in answers]
        greedy, _ = ask(
            self.model,
            pictures,
            [question],
            [0.0],
            params=self.model.roles["solver"],
            max_tokens=max(lengths),
        )
        for answer, total, length in zip(answers, told, lengths, strict=True):
            yield -total / length, greedy[0] == answer

    def _pictures(
        self, show: Callable[[Any], Any], number: int, task: str, split: str
    ) -> list[Picture]:
        """Those of a document, in the order of its question."""
        shown = show(self.task_dict[task][split][number]) if show else None
        pictures = list(shown or ())
        if not all(isinstance(picture, Picture) for picture in pictures):
            raise UserError(f"{task} shows more than pictures; choose tasks of pictures alone.")
        return [picture.convert("RGB") for picture in pictures]


class Tasks(NamedTuple):
    """Tasks of lmms-eval that were found, and what opens them."""

    names: list[str]
    manager: Any


def find_tasks(names: Sequence[str], folder: str | None = None) -> Tasks:
    """Looks tasks up before any model is opened.

    Args:
      names: or patterns, as lmms-eval lists them.
      folder: of tasks of the user's own, in lmms-eval's format.

    Raises:
      UserError: lmms-eval is not installed, or has no such task.
    """
    try:
        tasks = importlib.import_module("lmms_eval.tasks")
    except ModuleNotFoundError as error:
        raise UserError(
            f"--tasks needs lmms-eval ({error}); pip install 'asg-jax[lmms]', best in an"
            " environment of its own."
        ) from error
    importlib.import_module("loguru").logger.disable("lmms_eval.tasks")  # files that are no tasks
    manager = tasks.TaskManager("ERROR", include_path=folder, model_name=NAME)
    for name in names:
        if not manager.match_tasks([name]):
            near = difflib.get_close_matches(name, manager.all_tasks, n=1, cutoff=0)[0]
            raise UserError(f"lmms-eval has no task '{name}'; the nearest is '{near}'.")
    return Tasks(manager.match_tasks(list(names)), manager)


def run_tasks(model: OpenModel, tasks: Tasks, limit: int | None) -> tuple[str, dict[str, Any]]:
    """Scores a model on tasks of lmms-eval.

    Args:
      model: whose Solver answers.
      tasks: what it is asked.
      limit: questions of each task; None is all.

    Returns:
      lmms-eval's table, and the numbers in it with the answers to every question.

    Raises:
      UserError: questions cannot be had, or are of a kind that is not answered.
    """
    load = lambda name: importlib.import_module(f"lmms_eval.{name}")
    wrap = load("api.instance").GenerationResult

    class Registered(Examinee, load("api.model").lmms):
        def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
            return [wrap(pair) for pair in super().loglikelihood(requests)]  # else made text of

    given = {"task_manager": tasks.manager, "limit": limit, "batch_size": 1}
    try:
        found = load("evaluator").simple_evaluate(Registered(model), tasks=tasks.names, **given)
    except Exception as error:
        if not isinstance(cause := _cause(error), OSError):
            raise
        raise UserError(
            f"the questions of {', '.join(tasks.names)} cannot be had ({cause}); they come from the"
            " hub, so bring a network or its cache."
        ) from error
    samples = {
        task: [{name: row[name] for name in KEPT} for row in rows]
        for task, rows in found["samples"].items()
    }
    wanted = ("results", "versions", "n-samples")
    document = {name: found[name] for name in wanted} | {"samples": samples}
    return load("utils").make_table(found), document


def _cause(error: BaseException) -> BaseException:
    """What went wrong first."""
    return error if error.__cause__ is None else _cause(error.__cause__)
