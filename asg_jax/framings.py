"""The wordings of the instruction in which the Solver meets one question.

A vote over framings asks whether an answer survives another instruction, which says more than
sampling one prompt again. (Ask, Solve, Generate, arXiv 2606.27376, understanding step.)
"""

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


def frame(question: str) -> list[str]:
    """The question in all 7 framings, its text unchanged; the first is the canonical one."""
    return [framing.format(question=question) for framing in FRAMINGS]
