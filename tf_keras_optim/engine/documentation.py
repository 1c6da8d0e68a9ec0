"""The "Args:" section of a class, from what its hyperparameters say of themselves."""

import inspect
import textwrap
from collections.abc import Iterator, Mapping

from tf_keras_optim.engine.hyperparameters import Hyperparameter

MARK = "{{arguments}}"  # where the section goes
_WIDTH = 88


def filled(text: str | None, described: Mapping[str, str]) -> str:
    """Returns a docstring with the section in it.

    Args:
      text: the docstring, with `MARK` on a line of its own.
      described: the arguments in their order, each with what it is.
    """
    lines = ["Args:", *(line for item in described.items() for line in _lines(*item))]
    return inspect.cleandoc(text or "").replace(MARK, "\n".join(lines))


def descriptions(parameters: Mapping[str, Hyperparameter]) -> dict[str, str]:
    """Returns what each argument is."""
    return {name: description(parameter) for name, parameter in parameters.items()}


def description(parameter: Hyperparameter) -> str:
    """Returns what an argument is, in sentences: what it says, and what follows from it."""
    text = parameter.doc
    if not text.endswith("."):
        schedules = ", or a schedule" if parameter.schedulable else ""
        text = f"{text}{_range(parameter)}{schedules}."
    return f"{text} Keyword-only." if parameter.keyword_only else text


def _range(parameter: Hyperparameter) -> str:
    low, high = parameter.minimum, parameter.maximum
    if low is not None and parameter.below is not None:
        return f", in [{low:g}, {parameter.below:g})"
    if low is not None and high is not None:
        return f", in [{low:g}, {high:g}]"
    bounds = {
        "at least": low,
        "at most": high,
        "above": parameter.above,
        "below": parameter.below,
    }
    said = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
    return f", {' and '.join(said)}" if said else ""


def _lines(name: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(
        f"{name}: {text}",
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
