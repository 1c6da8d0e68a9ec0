"""Which variables are matrices, and which of their axes are inputs and outputs."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from tf_keras_optim.engine.numerics.matrices import MatrixAxes
from tf_keras_optim.engine.patterns import IntegersByPattern, by_pattern
from tf_keras_optim.engine.variable_hooks import VariableInfo

_TABLES = {"embedding", "embeddings"}
_NO_KERNELS = {"bias", "gamma", "beta", "alpha", "scale"}
_PROJECTIONS = r"(^|/)(query|key|value)/kernel(_\d+)?$"  # (model, heads, dim)
_ATTENTION_OUTPUT = r"(^|/)attention_output/kernel(_\d+)?$"  # (heads, dim, ...)
_DEPTHWISE = r"depthwise[^/]*(/[^/]*)?$"
_TRANSPOSED = r"conv(\dd)?_transpose[^/]*/[^/]*$"  # (..., outputs, inputs)


@dataclasses.dataclass(frozen=True)
class MatrixRules:
    """Which variables an optimizer takes for matrices.

    Attributes:
      title: its class, for messages.
      others: regular expressions, searched in a path: those variables are none.
      input_axes: by pattern, the number of axes that are inputs: the first ones, or, where it
        is negative, the last ones.
      batch_axes: by pattern, the number of leading axes that number matrices.
      tables: whether tables of embeddings are matrices.
      last_kernel: whether the last kernel of the model is one.
      rank_2: whether just those of two axes are, as Keras has it.
      per_head: whether each head of an attention kernel is one of its own.
    """

    title: str
    others: Sequence[str]
    input_axes: Mapping[str, int]
    batch_axes: Mapping[str, int]
    tables: bool = False
    last_kernel: bool = True
    rank_2: bool = False
    per_head: bool = False


def input_axes() -> IntegersByPattern:
    """Returns the declaration of how many axes of a variable are inputs."""
    return IntegersByPattern(
        until_built=True,
        doc="dict from regular expressions, searched in a variable's path, to the number of "
        "axes that are inputs, the rows of the matrix: the first n, after those of "
        "`batch_axes`, or, where it is negative, the last n. It counts more than names do.",
    )


def batch_axes() -> IntegersByPattern:
    """Returns the declaration of how many leading axes of a variable number matrices."""
    return IntegersByPattern(
        until_built=True,
        minimum=1,
        doc="dict as `input_axes`, to the number of leading axes that number matrices, as in "
        "banks of experts.",
    )


def axes_of(variable: VariableInfo, rules: MatrixRules) -> MatrixAxes | None:
    """Returns which axes of a variable make a matrix; `None` where it is none.

    Args:
      variable: the variable.
      rules: those of the optimizer.

    Raises:
      ValueError: they ask for more axes than the variable has.
    """
    path, is_head = variable.path, variable.is_last_kernel and not rules.last_kernel
    if variable.rank < 2 or is_head or any(re.search(p, path) for p in rules.others):
        return None
    axes = _asked_for(variable, rules)
    if axes is None and rules.rank_2:
        is_table = not rules.tables and "embedding" in path.lower()
        return MatrixAxes((0,), (1,)) if variable.rank == 2 and not is_table else None
    axes = axes or _by_name(variable, rules)
    return axes if axes is not None and min(axes.sizes(variable.shape)) > 1 else None


def _asked_for(variable: VariableInfo, rules: MatrixRules) -> MatrixAxes | None:
    """Returns the axes that arguments give, if they do.

    Raises:
      ValueError: there are not so many.
    """
    batch = by_pattern(rules.batch_axes, variable.path)
    inputs = by_pattern(rules.input_axes, variable.path)
    if batch is None and inputs is None:
        return None
    leading = batch or 0
    rest = variable.rank - leading
    if rest < 2 or (inputs is not None and abs(inputs) >= rest):
        raise ValueError(
            f"{rules.title}: for variable {variable.path!r} of shape {variable.shape}, "
            f"`batch_axes` says {batch} and `input_axes` {inputs}. One axis at least must be "
            "left for the inputs and one for the outputs. Correct the number or its pattern."
        )
    return _split(variable.rank, rest - 1 if inputs is None else inputs, leading)


def _by_name(variable: VariableInfo, rules: MatrixRules) -> MatrixAxes | None:
    """Returns the axes that a variable of that name has in Keras; `None` for no kernel."""
    words = set(variable.path.rsplit("/", 1)[-1].lower().split("_"))
    is_table = bool(words & _TABLES) and not rules.tables
    if is_table or words & _NO_KERNELS or re.search(_DEPTHWISE, variable.path):
        return None
    rank = variable.rank
    if rank >= 3 and re.search(_PROJECTIONS, variable.path):
        per_head = rules.per_head and rank == 3
        return MatrixAxes((0,), (2,), (1,)) if per_head else _split(rank, 1)
    if rank >= 3 and re.search(_ATTENTION_OUTPUT, variable.path):
        return _split(rank, 1, 1) if rules.per_head else _split(rank, 2)
    return _split(rank, -1 if re.search(_TRANSPOSED, variable.path) else rank - 1)


def _split(rank: int, inputs: int, batch: int = 0) -> MatrixAxes:
    """Returns the first axes as the batch, of the others the first, or last, as rows."""
    axes = tuple(range(batch, rank))
    if inputs < 0:
        return MatrixAxes(axes[inputs:], axes[:inputs], tuple(range(batch)))
    return MatrixAxes(axes[:inputs], axes[inputs:], tuple(range(batch)))
