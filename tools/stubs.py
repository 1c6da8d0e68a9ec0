"""Writes the stubs from which editors and type checkers know the arguments of classes.

    python -m tools.stubs           # writes them
    python -m tools.stubs --check   # says which ones differ, and changes nothing

Optimizers, schedules and the LossScaleOptimizer declare their arguments, and their signatures
are made from these when Python runs. A type checker does not run Python, so the same
declarations are written down in `.pyi` files beside the packages that offer the classes. All
other modules have their types in them.
"""

import argparse
import inspect
import pathlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tf_keras_optim import optimizers, schedules
from tf_keras_optim.engine import declarations, documentation
from tf_keras_optim.engine.groups import Groups
from tf_keras_optim.engine.hyperparameters import REQUIRED, Hyperparameter, LearningRate
from tf_keras_optim.engine.options import CommonOptions, Reducer
from tf_keras_optim.engine.patterns import ByPattern, IntegersByPattern, Patterns
from tf_keras_optim.loss_scale.arguments import Arguments
from tf_keras_optim.optimizers.muon_polynomials import Polynomial
from tf_keras_optim.schedules.base import Inner, Numbers

ROOT = pathlib.Path(__file__).resolve().parents[1]
_HEAD = '''"""{title} Written by tools/stubs.py."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, SupportsFloat, SupportsIndex, TypeAlias

{imports}

_Number: TypeAlias = SupportsFloat
_Integer: TypeAlias = SupportsIndex
_Schedule: TypeAlias = Callable[..., Any]
'''
_WIDTH = 96

# By the class of a declaration that is more than a value of one kind: its type.
_SPECIAL: tuple[tuple[type, str], ...] = (
    (LearningRate, "_Number | _Schedule"),
    (Reducer, "Callable[[list[Any]], list[Any]]"),
    (Groups, "Mapping[str, Any]"),
    (Patterns, "Sequence[str]"),
    (IntegersByPattern, "Mapping[str, _Integer]"),
    (Polynomial, "str | Sequence[Sequence[_Number]]"),
    (Numbers, "Sequence[_Number]"),
)
_KINDS: dict[Any, str] = {
    float: "_Number",
    int: "_Integer",
    bool: "bool",
    str: "str",
    dict: "Mapping[str, Any]",
    list: "Sequence[Any]",
    tuple: "Sequence[Any]",
}
_READ = {float: "float", int: "int", bool: "bool", str: "str"}


def annotation(parameter: Hyperparameter) -> str:
    """Returns the type of what an argument takes, as a text."""
    found = next((text for cls, text in _SPECIAL if isinstance(parameter, cls)), None)
    if isinstance(parameter, Inner):
        one = "_Number | _Schedule"
        found = f"Sequence[{one}]" if parameter.several else one
    elif isinstance(parameter, ByPattern):
        choices = _literal(parameter.values)
        found = f"{choices} | Mapping[str, {choices}]"
    elif found is None and parameter.choices is not None:
        found = _literal(value for value in parameter.choices if value is not None)
    elif found is None:
        found = _KINDS.get(parameter.kind, "Any")
        found += " | _Schedule" if parameter.schedulable else ""
    return f"{found} | None" if parameter.optional else found


def _literal(values: Any) -> str:
    return f"Literal[{', '.join(map(_shown, values))}]"


def _shown(value: Any) -> str:
    """Returns a default or a choice as source."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _attribute(parameter: Hyperparameter) -> str:
    """Returns the type that an argument has where it is read."""
    if parameter.choices is not None or parameter.schedulable:
        return "Any"
    found = _READ.get(parameter.kind, "Any")
    return f"{found} | None" if parameter.optional and found != "Any" else found


def _initializer(parameters: Mapping[str, Hyperparameter], first: str, named: bool) -> str:
    """Returns the source of `__init__`.

    Args:
      parameters: the hyperparameters in the order of the arguments.
      first: an argument before them, or an empty text.
      named: whether there is an argument `name`, by name only.
    """
    lines = ["self", *([first] if first else [])]
    by_name = False
    for argument in declarations.signature_of(parameters, named).parameters.values():
        if argument.kind is argument.KEYWORD_ONLY and not by_name:
            by_name = True
            lines.append("*")
        known = parameters.get(argument.name)
        kind = "str | None" if known is None else annotation(known)
        is_open = argument.default is REQUIRED
        default = "" if is_open else f" = {_shown(argument.default)}"
        lines.append(f"{argument.name}: {kind}{default}")
    inner = "".join(f"        {line},\n" for line in lines)
    return f"    def __init__(\n{inner}    ) -> None: ...\n"


def _class(
    cls: Any,
    base: str,
    parameters: Mapping[str, Hyperparameter],
    first: str = "",
    named: bool = True,
    apart_from: Any = (),
) -> str:
    """Returns the source of a class: its first line and own arguments, types, `__init__`.

    Args:
      cls: the class.
      base: the name of the one above it.
      parameters: the hyperparameters in the order of the arguments.
      first: an argument before them.
      named: whether there is an argument `name`, by name only.
      apart_from: names of arguments that are not described.
    """
    own = {name: value for name, value in parameters.items() if name not in apart_from}
    summary = inspect.cleandoc(cls.__doc__ or "").splitlines()[0]
    text = [f'    """{summary}', "", "    Args:"]
    for name, described in documentation.descriptions(own).items():
        text += textwrap.wrap(
            f"{name}: {described}", _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 8,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    if apart_from:
        text.append("      others: as for every optimizer; see `Optimizer`.")
    text.append('    """\n')
    attributes = [
        f"    {name}: {_attribute(value)}\n"
        for name, value in own.items()
        if not isinstance(value, LearningRate)
    ]
    body = "\n".join(text) + "\n" + "".join(attributes) + ("\n" if attributes else "")
    return f"\nclass {cls.__name__}({base}):\n{body}{_initializer(parameters, first, named)}"


def _above(cls: Any, classes: Mapping[str, Any], otherwise: str) -> str:
    """Returns the name of the nearest public class above another one."""
    names = {base: name for name, base in classes.items()}
    return next((names[base] for base in cls.__mro__[1:] if base in names), otherwise)


def _ordered(classes: Mapping[str, Any]) -> list[Any]:
    """Returns classes, each behind those above it."""
    return sorted(classes.values(), key=lambda cls: (len(cls.__mro__), cls.__name__))


def of_optimizers() -> str:
    """Returns the stub of `tf_keras_optim.optimizers`."""
    names = [name for name in optimizers.__all__ if name != "Optimizer"]
    classes = {name: getattr(optimizers, name) for name in names}
    common = declarations.collected(CommonOptions)
    imports = (
        "from tf_keras_optim.optimizers import records as records\n"
        "from tf_keras_optim.optimizers.base import Optimizer as Optimizer"
    )
    parts = [_HEAD.format(title="The optimizers.", imports=imports)]
    for cls in _ordered(classes):
        parameters = declarations.parameters_of(cls)
        same = {name for name, value in parameters.items() if common.get(name) is value}
        parts.append(
            _class(cls, _above(cls, classes, "Optimizer"), parameters, apart_from=same)
        )
    return "\n".join([*parts, _exports(optimizers.__all__)])


def of_schedules() -> str:
    """Returns the stub of `tf_keras_optim.schedules`."""
    classes = {
        name: value
        for name in schedules.__all__
        if isinstance(value := getattr(schedules, name), type) and name != "Schedule"
    }
    imports = (
        "from tf_keras_optim.schedules.base import Schedule as Schedule\n"
        "from tf_keras_optim.schedules.base import deserialize as deserialize"
    )
    parts = [_HEAD.format(title="Learning-rate schedules.", imports=imports)]
    for cls in _ordered(classes):
        parameters = declarations.parameters_of(cls)
        base = _above(cls, classes, "Schedule")
        parts.append(_class(cls, base, parameters, named=False))
    parts.append("\ndef serialize(learning_rate_schedule: Any) -> dict[str, Any]: ...\n")
    return "\n".join([*parts, _exports(schedules.__all__)])


def of_loss_scale() -> str:
    """Returns the stub of `tf_keras_optim.loss_scale`."""
    from tf_keras_optim.loss_scale import LossScaleOptimizer

    imports = (
        "from tf_keras_optim.loss_scale.keras3 import LossScaleOptimizer as _Wrapper\n"
        "from tf_keras_optim.optimizers.base import Optimizer"
    )
    parameters = declarations.parameters_of(Arguments)
    first = "inner_optimizer: Optimizer"
    body = _class(LossScaleOptimizer, "_Wrapper", parameters, first)
    head = _HEAD.format(title="Loss scaling for float16.", imports=imports)
    return "\n".join([head, body, _exports(["LossScaleOptimizer"])])


def _exports(names: Any) -> str:
    return "\n__all__ = [\n" + "".join(f'    "{name}",\n' for name in sorted(names)) + "]\n"


STUBS: dict[str, Callable[[], str]] = {
    "tf_keras_optim/optimizers/__init__.pyi": of_optimizers,
    "tf_keras_optim/schedules/__init__.pyi": of_schedules,
    "tf_keras_optim/loss_scale/__init__.pyi": of_loss_scale,
}


def different(root: pathlib.Path = ROOT) -> Iterator[tuple[pathlib.Path, str]]:
    """Yields the files that are not what the declarations say, and what they should be."""
    for name, made in STUBS.items():
        path, text = root / name, made()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield path, text


def main(argv: list[str] | None = None) -> int:
    """Writes the files; returns 1 if `--check` found one that differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    arguments = parser.parse_args(argv)
    found = list(different())
    for path, text in found:
        print(f"{'Differs' if arguments.check else 'Wrote'}: {path.relative_to(ROOT)}")
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
    return 1 if arguments.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
