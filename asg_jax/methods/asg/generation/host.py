"""The texts of a generation step, between its programs.

Ask, Solve, Generate (arXiv 2606.27376), generation step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from asg_jax.answers import parse_answer, vote_label
from asg_jax.backbone import Params, host
from asg_jax.engine.engine import Engine, Moment
from asg_jax.engine.looking import verdicts
from asg_jax.engine.method import Kept, Report
from asg_jax.engine.programs import Comparison, Inquiry, Likeness, Replies, Viewing
from asg_jax.engine.state import TrainState
from asg_jax.engine.texts import framings, pad
from asg_jax.methods.asg.generation import device
from asg_jax.methods.asg.generation.device import Judged, Marks, Results
from asg_jax.methods.asg.generation.specs import QASpec, reference_texts, write_specs
from asg_jax.methods.asg.purposes import Purpose
from asg_jax.methods.asg.settings import Settings
from asg_jax.objectives.texts import Said
from asg_jax.signals.fidelity import Fidelity, match_answers
from asg_jax.signals.table import DRAWINGS, needed

SHOWN = 4  # drawings that a report shows

Spoken = list[list[list[str]]]  # answers about each of the L drawings of each prompt


class Notes(NamedTuple):
    """What people may read of a step.

    Attributes:
      captions: of the real pictures; None where there is none.
      specs: of the captions.
      recaptions: of the L drawings of each caption.
    """

    captions: list[str | None]
    specs: list[QASpec]
    recaptions: list[list[str | None]]


class GenerationStep:
    """Takes generation steps."""

    def __init__(self, engine: Engine, settings: Settings):
        self.engine, self.settings = engine, settings
        self.needed = needed(DRAWINGS, settings.weights)
        self._learn = partial(device.learn, engine.model.backbone, settings)

    def step(self, state: TrainState, moment: Moment) -> tuple[TrainState, Callable[[], Report]]:
        """One step on the pictures of the moment."""
        results, notes = self.gather(state, moment)
        learned = self.engine.learn(self._learn, state, results)
        bill = self.engine.bill()

        def report() -> Report:
            metrics, judged = self.engine.placement.get((learned.metrics, learned.judged))
            return Report(
                phase="generation",
                metrics={name: float(value) for name, value in metrics.items()} | bill,
                rows=_rows(moment, notes, judged),
                pictures=dict(zip(_texts(notes.captions)[:SHOWN], judged.picture, strict=False)),
                kept=keep(judged, self.settings.kept_reward),
            )

        return learned.state, report

    def gather(self, state: TrainState, moment: Moment) -> tuple[Results, Notes]:
        """Lets the roles describe, ask, draw and look; the results lie on devices."""
        engine, settings, put = self.engine, self.settings, self.engine.placement.put
        described = self._describe(state, moment)
        captions = engine.scribe.captions(engine.placement.get(described.rollout.texts))
        order = engine.order(_texts(captions), moment.examples, Purpose.DRAW)
        generator = engine.params(state, "generator")
        drawn = engine.draw(generator, settings.sampler, settings.images, order)
        specs = write_specs(engine, settings, state, moment, captions)
        viewing = engine.viewing(drawn.pixels, settings.sampler.grid, len(captions))
        replies = self._examine(state, moment, viewing, described, specs)
        answers, recaptions = self._listen(replies)
        likeness = self._compare(viewing, described, captions, recaptions)
        marks = mark(captions, specs, answers, settings.questions, settings.numbers.fidelity)
        marks, stream = put((marks, moment.examples.stream(Purpose.LEARN)))
        verdict = None
        if "verdict" in self.needed:
            judge = engine.judge(state, settings.judge, "solver")
            verdict = verdicts(engine, judge, captions, viewing)[0]
        found = replies.probability, verdict
        results = Results(order.request, drawn, marks, likeness, *found, stream)
        return results, Notes(captions, specs, recaptions)

    def _describe(self, state: TrainState, moment: Moment) -> Said:
        """The judge's caption of each real picture."""
        engine, settings = self.engine, self.settings
        return engine.continue_texts(
            engine.judge(state, settings.judge, "solver"),
            settings.lengths.caption,
            moment,
            engine.scribe.tell([[engine.language.describe]] * len(moment.examples.ids)),
            settings.temperatures.caption,
            Purpose.DESCRIBE,
        )

    def _examine(
        self,
        state: TrainState,
        moment: Moment,
        viewing: Viewing,
        described: Said,
        specs: Sequence[QASpec],
    ) -> Replies:
        """Asks the judge about the drawings, and for a caption of each."""
        engine, settings, scribe = self.engine, self.settings, self.engine.scribe
        questions = pad([spec.questions for spec in specs], settings.questions)
        words = partial(framings, settings.checks, engine.language, settings.framed)
        asked = scribe.tell(
            [[t for q in row for t in words(q)] for row in questions], scribe.framed
        )
        canonical = [[engine.language.frame(q)[0] for q in row] for row in questions]
        references = reference_texts(specs, settings.questions, settings.lengths.answer)
        temperatures, put = settings.temperatures, engine.placement.put
        inquiry = Inquiry(
            viewing=viewing,
            questions=put(asked),
            describe=described.texts,
            reference_questions=put(scribe.tell(canonical, scribe.framed)),
            references=put(references),
            temperature=put(np.full(asked.ids.shape[:2], temperatures.check, np.float32)),
            caption_temperature=put(np.full((len(specs), 1), temperatures.recaption, np.float32)),
            stream=put(moment.examples.stream(Purpose.EXAMINE)),
        )
        judge = engine.judge(state, settings.judge, "solver")
        return engine.ask_about(judge, "probability" in self.needed, inquiry)

    def _listen(self, replies: Replies) -> tuple[Spoken, list[list[str | None]]]:
        """The answers about every drawing, and its caption."""
        images, scribe = self.settings.images, self.engine.scribe
        texts = self.engine.placement.get((replies.answers.texts, replies.captions.texts))
        answers, captions = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), texts)
        group = lambda row: [row[n : n + images] for n in range(0, len(row), images)]
        return group(scribe.hear(answers)), group(scribe.captions(captions))

    def _compare(
        self,
        viewing: Viewing,
        described: Said,
        captions: Sequence[str | None],
        recaptions: Sequence[Sequence[str | None]],
    ) -> Likeness:
        """How the frozen model finds drawings, prompts and captions alike."""
        engine = self.engine
        flat = [caption for row in recaptions for caption in row]
        prompts, others = (engine.scribe.sentences(_texts(texts)) for texts in (captions, flat))
        group = lambda x: x.reshape(len(captions), -1, *x.shape[1:])
        prompts, others = engine.placement.put((prompts, jax.tree.map(group, others)))
        batch = Comparison(viewing, prompts, others, described.texts, described.rollout.texts)
        wanted = "pictures" in self.needed, "likelihood" in self.needed
        return engine.compare(Params(engine.model.base), *wanted, batch)


def keep(judged: Judged, least: float) -> list[Kept]:
    """The best drawing of each prompt whose spec was accepted, if it is good enough."""
    rewards = np.where(judged.mask, judged.reward, -np.inf).max(1).tolist()
    pairs = zip(judged.picture, rewards, strict=True)
    return [Kept(pixels, reward) for pixels, reward in pairs if reward >= least]


def mark(
    captions: Sequence[str | None],
    specs: Sequence[QASpec],
    answers: Spoken,
    questions: int,
    numbers: Fidelity,
) -> Marks:
    """Compares the answers about drawings with the references.

    Args:
      captions: what was drawn.
      specs: questions on these.
      answers: texts about each drawing, as many for every question, one question after another.
      questions: M.
      numbers: how answers are compared.
    """
    shape = (len(specs), len(answers[0]), questions)
    checks = len(answers[0][0]) // questions
    judged = np.zeros((*shape, 4), np.float32)
    for n, image, m in np.ndindex(shape):
        if m < len(specs[n].questions):
            few = answers[n][image][m * checks : (m + 1) * checks]
            judged[n, image, m] = _match(specs[n], m, few, numbers)
    texts = _texts(captions)
    number = lambda values, dtype: host(np.array(list(values), dtype))
    return Marks(
        asked=host(np.arange(questions) < np.array([len(s.questions) for s in specs])[:, None]),
        accepted=number((spec.accepted for spec in specs), bool),
        quality=number((spec.quality for spec in specs), np.float32),
        attempt=number((spec.attempt for spec in specs), np.int32),
        caption_words=number((len(text.split()) for text in texts), np.int32),
        novel=number((text not in texts[:n] for n, text in enumerate(texts)), bool),
        match=host(judged[..., 0]),
        fraction=host(judged[..., 1]),
        contradiction=host(judged[..., 2]),
        disagreement=host(judged[..., 3]),
    )


def _match(spec: QASpec, m: int, texts: Sequence[str], numbers: Fidelity) -> tuple[float, ...]:
    question, reference = spec.questions[m], spec.references[m]
    answers, wanted = [parse_answer(text) for text in texts], vote_label(question, reference).name
    others = [vote_label(question, answer).name != wanted for answer in answers]
    matched = match_answers(question, answers, reference, numbers)
    return (*matched, sum(others) / len(others))


def _texts(captions: Sequence[str | None]) -> list[str]:
    return [caption or "" for caption in captions]


def _rows(moment: Moment, notes: Notes, judged: Judged) -> list[dict[str, Any]]:
    """The best drawing of each prompt."""
    rows = []
    for n, spec in enumerate(notes.specs):
        best = int(judged.best.place[n])
        pairs = zip(spec.questions, spec.references, strict=True)
        rows.append(
            {
                "picture": moment.examples.ids[n],
                "prompt": notes.captions[n] or "",
                "questions": " ".join(f"{question} {answer}." for question, answer in pairs),
                "accepted": spec.accepted,
                "caption": notes.recaptions[n][best] or "",
                **{name: float(values[n, best]) for name, values in judged.signals.items()},
                "reward": float(judged.reward[n, best]),
            }
        )
    return rows
