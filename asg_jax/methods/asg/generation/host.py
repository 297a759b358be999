"""The texts of a generation step, between its programs.

Ask, Solve, Generate (arXiv 2606.27376), generation step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from asg_jax.answers import parse_answer, vote_label
from asg_jax.backbone import Params, host
from asg_jax.engine.engine import Engine, Moment
from asg_jax.engine.looking import FACTS, Look, look, verdicts
from asg_jax.engine.method import Kept, Report
from asg_jax.engine.programs import Comparison, Inquiry, Likeness, Replies, Viewing
from asg_jax.engine.state import TrainState
from asg_jax.engine.texts import framings, pad
from asg_jax.methods.asg.generation import device
from asg_jax.methods.asg.generation.device import Findings, JudgedDrawings, Marks, Results
from asg_jax.methods.asg.generation.specs import QASpec, reference_texts, write_specs
from asg_jax.methods.asg.purposes import Purpose
from asg_jax.methods.asg.settings import Settings
from asg_jax.objectives.texts import Said
from asg_jax.rollout.text import Texts
from asg_jax.signals.fidelity import Fidelity, match_answers
from asg_jax.signals.table import COMPARED, DRAWINGS, Signal, needed, read

SHOWN = 4  # drawings that a report shows
VOTED = COMPARED - {"probability"}  # facts that sampled answers give

Spoken = list[list[list[str]]]  # answers about each of the L drawings of each prompt


class Notes(NamedTuple):
    """What people may read of a step.

    Attributes:
      captions: those of the real pictures; None where there is none.
      specs: what the captions ask for.
      recaptions: captions of the L drawings of each caption.
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
        engine, settings = self.engine, self.settings
        described = self._describe(state, moment)
        said = engine.placement.get(described.rollout.texts)
        captions = engine.scribe.captions(said)
        order = engine.order(_texts(captions), moment.examples, Purpose.DRAW)
        generator = engine.params(state, "generator")
        drawn = engine.draw(generator, settings.sampler, settings.images, order)
        facts = self.needed | {"match", "captions", "features"}  # for metrics and rows
        findings, notes = self.look(state, moment, captions, said, drawn.pixels, facts)
        stream = engine.placement.put(moment.examples.stream(Purpose.LEARN))
        return Results(order.request, drawn, findings, stream), notes

    def look(
        self,
        state: TrainState,
        moment: Moment,
        captions: Sequence[str | None],
        said: Texts,
        pixels: Float[Array, "B L H W 3"],
        facts: frozenset[str],
    ) -> tuple[Findings, Notes]:
        """Finds out about pictures what signals need.

        Args:
          state: the roles.
          moment: the real pictures, which questions are answered on first.
          captions: what the pictures are to show; None where there is no caption.
          said: the same as tokens of answers; G = 1.
          pixels: the pictures, values in [0, 1], on devices.
          facts: what is wanted (`asg_jax.signals.table.Signal.needs`), of those in
            `asg_jax.methods.asg.settings.FOUND`.
        """
        engine, settings, put = self.engine, self.settings, self.engine.placement.put
        told, own = put((self._instructed(len(captions)), said))
        specs = [QASpec()] * len(captions)
        if facts & COMPARED:
            specs = write_specs(engine, settings, state, moment, captions)
        viewing = engine.viewing(pixels, settings.sampler.grid, len(captions))
        replies = self._examine(state, moment, viewing, told, specs, facts)
        answers, recaptions = self._listen(replies, len(captions), pixels.shape[1])
        likeness = self._compare(viewing, told, own, captions, recaptions, facts)
        marks = mark(captions, specs, answers, settings.questions, settings.numbers.fidelity)
        verdict = None
        if "verdict" in facts:
            judge = engine.judge(state, settings.judge, "solver")
            verdict = verdicts(engine, judge, captions, viewing)[0]
        findings = Findings(put(marks), likeness, replies.probability, verdict)
        return findings, Notes(list(captions), specs, recaptions)

    def score(
        self,
        state: TrainState,
        moment: Moment,
        texts: Sequence[str],
        pictures: UInt8[np.ndarray, "B L H W 3"],
        signals: Mapping[str, Signal],
    ) -> dict[str, Float[np.ndarray, "B L"]]:
        """See `asg_jax.engine.method.Scorer`; questions need not be fit to be asked."""
        engine, settings, put = self.engine, self.settings, self.engine.placement.put
        pixels = put(host(pictures.astype(np.float32) / 255))
        direct = {name: one for name, one in signals.items() if FACTS.issuperset(one.needs)}
        others = {name: one for name, one in signals.items() if name not in direct}
        scores: dict[str, Float[Array, "B L"]] = {}
        if direct:
            judge = engine.judge(state, settings.judge, "solver")
            viewing = engine.viewing(pixels, settings.sampler.grid, len(texts))
            wanted = Look(_needs(direct), settings.questions, Purpose.EXAMINE)
            found = look(engine, judge, moment, texts, viewing, wanted)
            scores |= read(direct, dict.fromkeys(direct, 1.0), found.record, settings.numbers)
        if others:
            said = engine.scribe.say([[text] for text in texts], settings.lengths.caption)
            findings, _ = self.look(state, moment, texts, said, pixels, _needs(others))
            record = device.record(findings, put(host(np.ones(pictures.shape[:2], bool))))
            scores |= read(others, dict.fromkeys(others, 1.0), record, settings.numbers)
        return engine.placement.get({name: scores[name] for name in signals})

    def _instructed(self, count: int) -> Texts:
        """The instruction to write a caption."""
        return self.engine.scribe.tell([[self.engine.language.describe]] * count)

    def _describe(self, state: TrainState, moment: Moment) -> Said:
        """The judge's caption of each real picture."""
        engine, settings = self.engine, self.settings
        return engine.continue_texts(
            engine.judge(state, settings.judge, "solver"),
            settings.lengths.caption,
            moment,
            self._instructed(len(moment.examples.ids)),
            settings.temperatures.caption,
            Purpose.DESCRIBE,
        )

    def _examine(
        self,
        state: TrainState,
        moment: Moment,
        viewing: Viewing,
        told: Texts,
        specs: Sequence[QASpec],
        facts: frozenset[str],
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
            describe=told,
            reference_questions=put(scribe.tell(canonical, scribe.framed)),
            references=put(references),
            temperature=put(np.full(asked.ids.shape[:2], temperatures.check, np.float32)),
            caption_temperature=put(np.full((len(specs), 1), temperatures.recaption, np.float32)),
            stream=put(moment.examples.stream(Purpose.EXAMINE)),
        )
        judge = engine.judge(state, settings.judge, "solver")
        wanted = facts | {"answers"} if facts & VOTED else facts
        return engine.ask_about(judge, wanted, inquiry)

    def _listen(
        self, replies: Replies, count: int, images: int
    ) -> tuple[Spoken, list[list[str | None]]]:
        """The answers about every drawing, and its caption; none where nobody asked."""
        scribe = self.engine.scribe
        texts = [said and said.texts for said in (replies.answers, replies.captions)]
        flat = lambda x: x.reshape(-1, *x.shape[2:])
        answers, captions = jax.tree.map(flat, self.engine.placement.get(texts))
        group = lambda row: [row[n : n + images] for n in range(0, len(row), images)]
        nothing = count * images
        return (
            group(scribe.hear(answers) if answers else [[]] * nothing),
            group(scribe.captions(captions) if captions else [None] * nothing),
        )

    def _compare(
        self,
        viewing: Viewing,
        told: Texts,
        said: Texts,
        captions: Sequence[str | None],
        recaptions: Sequence[Sequence[str | None]],
        facts: frozenset[str],
    ) -> Likeness:
        """How the frozen model finds drawings, prompts and captions alike."""
        engine = self.engine
        flat = [caption for row in recaptions for caption in row]
        prompts, others = (engine.scribe.sentences(_texts(texts)) for texts in (captions, flat))
        group = lambda x: x.reshape(len(captions), -1, *x.shape[1:])
        prompts, others = engine.placement.put((prompts, jax.tree.map(group, others)))
        batch = Comparison(viewing, prompts, others, told, said)
        return engine.compare(Params(engine.model.base), facts, batch)


def keep(judged: JudgedDrawings, least: float) -> list[Kept]:
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
        if m < len(specs[n].questions) and checks:
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


def _needs(signals: Mapping[str, Signal]) -> frozenset[str]:
    return needed(signals, dict.fromkeys(signals, 1.0))


def _texts(captions: Sequence[str | None]) -> list[str]:
    return [caption or "" for caption in captions]


def _rows(moment: Moment, notes: Notes, judged: JudgedDrawings) -> list[dict[str, Any]]:
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
