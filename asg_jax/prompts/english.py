"""English, for models that were trained on conversations about pictures."""

from __future__ import annotations

from asg_jax.prompts.language import Language

# A vote over framings asks whether an answer survives another instruction, which says more than
# sampling one prompt again. (Ask, Solve, Generate, arXiv 2606.27376, understanding step.)
FRAMINGS = (
    "Answer the question about the image in one to five words. {question}",
    "{question} Reply with nothing but the answer, in one to five words.",
    "Question: {question}\nShort answer, one to five words:",
    "You are a careful observer. Look at the whole image, then answer in one to five words. "
    "{question}",
    "Someone who cannot see the image asks you: {question} Tell them in one to five words.",
    "Rely only on what is visible and give the most specific answer you can, in one to five words. "
    "{question}",
    "Here is one item of a quiz about this picture: {question} Write down your answer without an "
    "explanation, in one to five words.",
)

_FORM = """Write nothing but six lines of this form:
Q: first question?
A: its answer
Q: second question?
A: its answer
Q: third question?
A: its answer"""

_CHECK = (
    "Look at this image and read what it should show: {caption}\n"
    "Write three short questions whose answers tell whether an image shows exactly that. Each "
    "question must need at least two visual cues, for example a number and a color, or an object "
    "and its place. Ask about different things, and do not ask only for yes or no. Each answer has "
    "one to five words.\n"
)

ENGLISH = Language(
    framings=FRAMINGS,
    ask=(
        "Write one question about this image that someone can answer only by looking closely. It "
        "must have a single correct answer of one to five words that the image settles: a number, "
        "a color, a shape, a material, a position, a text or an action. Prefer details that need "
        "two looks, such as how many of some objects share a property, or what stands beside "
        "something small. Do not ask for opinions or guesses, do not offer answers to choose "
        "from, and do not ask for what is obvious at first sight. The question has at most 24 "
        "words and ends with a question mark. Write nothing else."
    ),
    describe=(
        "Describe this image in one sentence that could serve as a prompt to paint it again: the "
        "objects, how many there are, their colors, and where they are. Write nothing else."
    ),
    decompose=_CHECK + _FORM,
    again=_CHECK + "An earlier attempt was rejected, because {reason}. Do better.\n" + _FORM,
    match=(
        "Does this image show exactly the following: {caption}\n"
        "Check every object, its number, its color and its place. Answer with yes or no."
    ),
    think=(
        "Does this image show exactly the following: {caption}\n"
        "Take that apart into short questions about single objects, numbers, colors and places. "
        "Between <think_start> and <think_end> write every question and, right behind its question "
        "mark, yes or no for this image. Then write your verdict between <answer_start> and "
        "<answer_end>, yes or no."
    ),
    region=(
        "Look at nothing but the {place} part of this image. The image should show: {caption}\n"
        "Is what stands in that part as it should be, and well drawn? Answer with yes or no."
    ),
    compare=(
        "There are two images. Which of them shows this better: {caption}\n"
        "Answer with the word first or the word second."
    ),
    write=(
        "Write one prompt for an image generator, in one sentence. It names at most three objects "
        "and says how many there are, their colors, and where they are. Choose objects that you "
        "would not think of first. Write nothing else."
    ),
    rewrite=(
        "Rewrite this prompt for an image generator, in one sentence that says the same more "
        "clearly, every object with its number, color and place: {caption}\nWrite nothing else."
    ),
    yes=("yes", "Yes", "YES", " yes", " Yes"),
    no=("no", "No", "NO", " no", " No"),
    sides=("first", "second"),
)
