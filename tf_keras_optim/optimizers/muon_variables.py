"""Which variables Muon orthogonalizes, and which of their axes are inputs and outputs."""

import math
import re
from typing import Any

from tf_keras_optim.engine.numerics.matrices import MatrixAxes
from tf_keras_optim.engine.patterns import by_pattern
from tf_keras_optim.engine.variable_hooks import VariableInfo

_TABLES = {"embedding", "embeddings"}
_NO_KERNELS = {"bias", "gamma", "beta", "alpha", "scale"}
_PROJECTIONS = r"(^|/)(query|key|value)/kernel(_\d+)?$"  # (model, heads, dim)
_ATTENTION_OUTPUT = r"(^|/)attention_output/kernel(_\d+)?$"  # (heads, dim, ...)
_DEPTHWISE = r"depthwise[^/]*(/[^/]*)?$"
_TRANSPOSED = r"conv(\dd)?_transpose[^/]*/[^/]*$"  # (..., outputs, inputs)


def axes_of(variable: VariableInfo, muon: Any) -> MatrixAxes | None:
    """Returns which axes of a variable make a matrix; `None` where AdamW moves it.

    Args:
      variable: the variable.
      muon: the arguments of the optimizer.

    Raises:
      ValueError: an argument asks for more axes than the variable has.
    """
    path, is_head = variable.path, muon.output == "last" and variable.is_last_kernel
    if variable.rank < 2 or is_head or any(re.search(p, path) for p in muon.exclude_layers):
        return None
    axes = _asked_for(variable, muon)
    if axes is None and muon.matrices == "rank_2":
        is_table = muon.exclude_embeddings and "embedding" in path.lower()
        return MatrixAxes((0,), (1,)) if variable.rank == 2 and not is_table else None
    axes = axes or _by_name(variable, muon)
    return axes if axes is not None and min(axes.sizes(variable.shape)) > 1 else None


def factor_of(sizes: tuple[int, int], muon: Any) -> float:
    """Returns what the step of a matrix is multiplied by, beside the rate.

    Args:
      sizes: its numbers of rows and of columns, that is of inputs and of outputs.
      muon: the arguments of the optimizer.
    """
    rows, columns = sizes
    if muon.scale == "spectral":
        return math.sqrt(max(1.0, columns / max(rows, 1)))
    return 1.0 if muon.rms_rate is None else float(muon.rms_rate * math.sqrt(max(sizes)))


def _asked_for(variable: VariableInfo, muon: Any) -> MatrixAxes | None:
    """Returns the axes that arguments give, if they do.

    Raises:
      ValueError: there are not so many.
    """
    batch = by_pattern(muon.batch_axes, variable.path)
    inputs = by_pattern(muon.input_axes, variable.path)
    if batch is None and inputs is None:
        return None
    leading = batch or 0
    rest = variable.rank - leading
    if rest < 2 or (inputs is not None and abs(inputs) >= rest):
        raise ValueError(
            f"{type(muon).__name__}: for variable {variable.path!r} of shape {variable.shape}, "
            f"`batch_axes` says {batch} and `input_axes` {inputs}. One axis at least must be "
            "left for the inputs and one for the outputs. Correct the number or its pattern."
        )
    return _split(variable.rank, rest - 1 if inputs is None else inputs, leading)


def _by_name(variable: VariableInfo, muon: Any) -> MatrixAxes | None:
    """Returns the axes that a variable of that name has in Keras; `None` for no kernel."""
    words = set(variable.path.rsplit("/", 1)[-1].lower().split("_"))
    is_table = bool(words & _TABLES) and muon.exclude_embeddings
    if is_table or words & _NO_KERNELS or re.search(_DEPTHWISE, variable.path):
        return None
    rank = variable.rank
    if rank >= 3 and re.search(_PROJECTIONS, variable.path):
        per_head = muon.per_head and rank == 3
        return MatrixAxes((0,), (2,), (1,)) if per_head else _split(rank, 1)
    if rank >= 3 and re.search(_ATTENTION_OUTPUT, variable.path):
        return _split(rank, 1, 1) if muon.per_head else _split(rank, 2)
    return _split(rank, -1 if re.search(_TRANSPOSED, variable.path) else rank - 1)


def _split(rank: int, inputs: int, batch: int = 0) -> MatrixAxes:
    """Returns the first axes as the batch, of the others the first, or last, as rows."""
    axes = tuple(range(batch, rank))
    if inputs < 0:
        return MatrixAxes(axes[inputs:], axes[:inputs], tuple(range(batch)))
    return MatrixAxes(axes[:inputs], axes[inputs:], tuple(range(batch)))
