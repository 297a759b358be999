"""The generation step between the devices and the texts.

Ask, Solve, Generate (arXiv 2606.27376), generation step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from asg_jax.answers import parse_answer, vote_label
from asg_jax.backbone import Params, host
from asg_jax.methods.asg import generation
from asg_jax.methods.asg.generation import Judgement, Marks, Results
from asg_jax.methods.asg.kit import Kit, Learner, Moment
from asg_jax.methods.asg.rollouts import (
    Comparison,
    Drawings,
    Examination,
    Likeness,
    Order,
    Seen,
    Viewing,
)
from asg_jax.methods.asg.scribe import Stream, framings, pad
from asg_jax.methods.asg.specs import Spec, reference_rollout, write_specs
from asg_jax.methods.asg.updates import Said
from asg_jax.methods.base import Kept, Report, TrainState
from asg_jax.signals.fidelity import judge_pair

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
    specs: list[Spec]
    recaptions: list[list[str | None]]


class GenerationStep:
    """Takes generation steps."""

    def __init__(self, kit: Kit):
        self.kit = kit
        self._learn = Learner(partial(generation.learn, kit.backbone, kit.settings))

    def step(self, state: TrainState, moment: Moment) -> tuple[TrainState, Report]:
        """One step on the pictures of the moment."""
        results, notes = self.gather(state, moment)
        pictures = results.drawing.pictures
        learned = self._learn(self.kit.base, state, results)
        metrics, judged, pictures = self.kit.placement.get(
            (learned.metrics, learned.judgement, pictures)
        )
        winners = pictures[np.arange(len(pictures)), judged.reward.argmax(1)]
        report = Report(
            phase="generation",
            metrics={name: float(value) for name, value in metrics.items()},
            rows=_rows(moment, notes, judged),
            pictures=dict(zip(_texts(notes.captions)[:SHOWN], winners, strict=False)),
            kept=self._keep(winners, judged),
        )
        return learned.state, report

    def gather(self, state: TrainState, moment: Moment) -> tuple[Results, Notes]:
        """Lets the roles describe, ask, draw and look; the results lie on devices."""
        kit = self.kit
        described = self._describe(state, moment)
        captions = kit.scribe.captions(kit.placement.get(described.rollout))
        specs = write_specs(kit, state, moment, captions)
        order = kit.placement.put(
            Order(kit.scribe.order(_texts(captions)), host(moment.stream(Stream.DRAW)))
        )
        drawn: Drawings = kit.programs["draw"](kit.params(state, "generator"), order)
        viewing = self._view(drawn, len(captions))
        seen = self._examine(state, moment, viewing, described, specs)
        answers, recaptions = self._listen(seen)
        likeness = self._compare(viewing, described, captions, recaptions)
        marks = mark(captions, specs, answers, kit.settings.questions)
        marks, stream = kit.placement.put((marks, moment.stream(Stream.LEARN)))
        results = Results(order.request, drawn, marks, likeness, seen.live, seen.frozen, stream)
        return results, Notes(captions, specs, recaptions)

    def _describe(self, state: TrainState, moment: Moment) -> Said:
        """The judge's caption of each real picture."""
        kit = self.kit
        texts = kit.scribe.tell([[kit.language.describe]] * len(moment.ids))
        heat = kit.settings.temperatures.caption
        return kit.speak(kit.judge(state), "caption", moment, texts, heat, Stream.DESCRIBE)

    def _view(self, drawn: Drawings, count: int) -> Viewing:
        """The drawings as pictures that one can be asked about."""
        side, (rows, columns) = self.kit.backbone.spec.token_pixels, self.kit.settings.sampler.grid
        here = self.kit.placement
        frame = self.kit.scribe.frame(rows * side, columns * side, count)
        return Viewing(drawn.pixels, here.put(frame))

    def _examine(
        self,
        state: TrainState,
        moment: Moment,
        viewing: Viewing,
        described: Said,
        specs: Sequence[Spec],
    ) -> Seen:
        """Asks the judge about the drawings, and for a caption of each."""
        kit, settings, scribe = self.kit, self.kit.settings, self.kit.scribe
        questions = pad([spec.questions for spec in specs], settings.questions)
        words = partial(framings, settings.checks, kit.language, settings.framed)
        asked = scribe.tell(
            [[t for q in row for t in words(q)] for row in questions], scribe.framed
        )
        canonical = [[kit.language.frame(q)[0] for q in row] for row in questions]
        spoken = reference_rollout(specs, settings.questions, settings.lengths.answer)
        heat = settings.temperatures
        put = kit.placement.put
        batch = Examination(
            viewing=viewing,
            questions=put(asked),
            describe=described.texts,
            references=put((scribe.tell(canonical, scribe.framed), spoken)),
            temperature=put(np.full(asked.ids.shape[:2], heat.check, np.float32)),
            caption_temperature=put(np.full((len(specs), 1), heat.recaption, np.float32)),
            stream=put(moment.stream(Stream.EXAMINE)),
        )
        return kit.programs["examine"](kit.params(state, "solver"), batch)

    def _listen(self, seen: Seen) -> tuple[Spoken, list[list[str | None]]]:
        """The answers about every drawing, and its caption."""
        images = self.kit.settings.images
        flat = lambda x: x.reshape(-1, *x.shape[2:])
        seen = self.kit.placement.get(seen)
        answers, captions = jax.tree.map(flat, (seen.answers, seen.captions))
        group = lambda row: [row[n : n + images] for n in range(0, len(row), images)]
        scribe = self.kit.scribe
        return group(scribe.hear(answers)), group(scribe.captions(captions))

    def _compare(
        self,
        viewing: Viewing,
        described: Said,
        captions: Sequence[str | None],
        recaptions: Sequence[Sequence[str | None]],
    ) -> Likeness:
        kit = self.kit
        flat = [caption for row in recaptions for caption in row]
        sentences = [kit.scribe.sentences(_texts(texts)) for texts in (captions, flat)]
        prompts, others = kit.placement.put(sentences)
        batch = Comparison(viewing, prompts, others, described.texts, described.rollout)
        return kit.programs["compare"](Params(kit.base), batch)

    def _keep(self, winners: np.ndarray, judged: Judgement) -> list[Kept]:
        """The best drawing of each prompt, if it is good enough."""
        rewards = np.where(judged.mask, judged.reward, -np.inf).max(1).tolist()
        least = self.kit.settings.kept_reward
        pairs = zip(winners, rewards, strict=True)
        return [Kept(pixels, reward) for pixels, reward in pairs if reward >= least]


def mark(
    captions: Sequence[str | None], specs: Sequence[Spec], answers: Spoken, questions: int
) -> Marks:
    """Compares the answers about drawings with the references.

    Args:
      captions: that were drawn.
      specs: of these.
      answers: texts about each drawing, as many for every question, one question after another.
      questions: M.
    """
    shape = (len(specs), len(answers[0]), questions)
    checks = len(answers[0][0]) // questions
    judged = np.zeros((*shape, 4), np.float32)
    for n, image, m in np.ndindex(shape):
        if m < len(specs[n].questions):
            few = answers[n][image][m * checks : (m + 1) * checks]
            judged[n, image, m] = _compare_answers(specs[n], m, [parse_answer(t) for t in few])
    texts = _texts(captions)
    number = lambda values, dtype: host(np.array(list(values), dtype))
    return Marks(
        asked=host(np.arange(questions) < np.array([len(s.questions) for s in specs])[:, None]),
        accepted=number((spec.accepted for spec in specs), bool),
        quality=number((spec.quality for spec in specs), np.float32),
        attempts=number((spec.attempts for spec in specs), np.int32),
        caption_words=number((len(text.split()) for text in texts), np.int32),
        novel=number((text not in texts[:n] for n, text in enumerate(texts)), bool),
        match=host(judged[..., 0]),
        fraction=host(judged[..., 1]),
        contradiction=host(judged[..., 2]),
        disagreement=host(judged[..., 3]),
    )


def _compare_answers(spec: Spec, m: int, answers: list[str]) -> tuple[float, ...]:
    question, reference = spec.questions[m], spec.references[m]
    wanted = vote_label(question, reference).name
    others = [vote_label(question, answer).name != wanted for answer in answers]
    return (*judge_pair(question, answers, reference), sum(others) / len(others))


def _texts(captions: Sequence[str | None]) -> list[str]:
    return [caption or "" for caption in captions]


def _rows(moment: Moment, notes: Notes, judged: Judgement) -> list[dict[str, Any]]:
    """The best drawing of each prompt."""
    rows = []
    for n, spec in enumerate(notes.specs):
        best = int(judged.reward[n].argmax())
        pairs = zip(spec.questions, spec.references, strict=True)
        rows.append(
            {
                "picture": moment.ids[n],
                "prompt": notes.captions[n] or "",
                "questions": " ".join(f"{question} {answer}." for question, answer in pairs),
                "accepted": spec.accepted,
                "caption": notes.recaptions[n][best] or "",
                "fidelity": float(judged.fidelity[n, best]),
                "cycle": float(judged.cycle[n, best]),
                "reward": float(judged.reward[n, best]),
            }
        )
    return rows
