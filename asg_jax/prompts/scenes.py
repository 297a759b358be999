"""The small language of rendered scenes, which the tiny model speaks and nothing else."""

from __future__ import annotations

from asg_jax.prompts.language import Language

# One question in seven wordings of the instruction; the first is the canonical one.
FRAMINGS = (
    "{question}",
    "answer: {question}",
    "{question} answer:",
    "question: {question}",
    "question: {question} answer:",
    "see the image. {question}",
    "{question} see the image.",
)
INSTRUCTIONS = {
    "ask": "write a question.",
    "caption": "describe the image.",
    "spec": "write a prompt and three questions.",
    "match": "does the image show this: {caption}?",
    "write": "write a prompt.",
    "rewrite": "write this in other words: {caption}",
    "decompose": "write questions on this: {caption}",
    "compare": "which image shows this: {caption}?",
}

SCENES = Language(
    framings=FRAMINGS,
    ask=INSTRUCTIONS["ask"],
    describe=INSTRUCTIONS["caption"],
    decompose=INSTRUCTIONS["decompose"],
    again=INSTRUCTIONS["decompose"],  # the language has no words for reasons: just try again
    match=INSTRUCTIONS["match"],
    think="",
    region="{place}: " + INSTRUCTIONS["match"],
    compare=INSTRUCTIONS["compare"],
    write=INSTRUCTIONS["write"],
    rewrite=INSTRUCTIONS["rewrite"],
    yes=("yes",),
    no=("no",),
    sides=("first", "second"),
)
