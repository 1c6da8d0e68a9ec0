"""What an optimizer does with each variable, as a table."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.options import is_lazy
from tf_keras_optim.engine.seen import class_of
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step.planning import Planning
from tf_keras_optim.engine.step.rate import Rate
from tf_keras_optim.engine.step.received import Received
from tf_keras_optim.engine.update import kernel_choice, plans

_HEADS = ("variable", "shape", "dtype", "kernel", "state", "bytes", "sparse", "decay", "group")

_RULE_HEADS = ("rate", "rule")
_REFRESH_HEADS = ("refreshed",)


@dataclasses.dataclass(frozen=True)
class VariableReport:
    """What is kept for one variable, and how it is updated.

    Attributes:
      path: its path.
      shape: its shape.
      dtype: its dtype.
      kernel: what updates it outside a compiled function: "fused" (a training operation of
        TensorFlow), "xla" (a kernel that XLA compiles), "graph" (operations one by one),
        "update_step" (written by the user) or "overwritten" by its gradient.
      state: dtype of each state variable by name: slots, scales of 8-bit slots, whether slots
        have started from the variable's value, "average", "gradient_accumulator", "master".
      state_bytes: bytes of all of these.
      sparse: "exact" or "lazy".
      decays: whether weight decay applies.
      group: variables with the same number are updated alike: those of an "xla" or "graph"
        kernel share what is traced and compiled.
      rule: the class whose algorithm updates it, and the patterns of its group in `groups`,
        if it has one.
      rate: its learning rate at the next update, with all factors.
      refreshed_every: after how many updates the algorithm computes slots of it anew; `None`
        where it does not.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    kernel: str
    state: dict[str, str]
    state_bytes: int
    sparse: str
    decays: bool
    group: int
    rule: str = ""
    rate: float = 0.0
    refreshed_every: int | None = None

    @property
    def parameters(self) -> int:
        """The number of elements."""
        return tf.TensorShape(self.shape).num_elements()


def reports(context: Context, planning: Planning, rate: Rate) -> list[VariableReport]:
    """Returns a report on each variable of a built optimizer.

    Args:
      context: what its parts share.
      planning: plans its updates.
      rate: its learning rate.
    """
    groups: dict[Any, int] = {}
    found, updates = [], context.counter.updates()
    for entry in context.store.tracked:
        own = planning.of_group(entry.group)
        algorithm = class_of(context.of(entry).algorithm).__name__
        report = _report(context.of(entry), own, entry, groups)
        now = float(rate.of(entry, updates)) * own.own(entry).rate_factor
        rule = f"{algorithm} [{entry.group}]" if entry.group else algorithm
        found.append(dataclasses.replace(report, rule=rule, rate=now))
    return found


def _report(
    context: Context, planning: Planning, entry: VariableState, groups: dict[Any, int]
) -> VariableReport:
    late = entry.late()
    kept = {name: v for name, v in entry.kept().items() if name not in late}
    shape, decays = tuple(entry.variable.shape), planning.decays(entry)
    step = planning.step_plan(Received())
    pace = planning.pace(entry)
    source = plans.GIVEN if step.calls == 1 else plans.ACCUMULATED
    plan = planning.update_plan(entry, planning.rule(), step, source)
    dtypes = {name: variable.dtype.name for name, variable in kept.items()}
    shared = plan.kernel in kernel_choice.KERNELS
    kept_as = (plan, shape, entry.variable.dtype, *dtypes.items())
    alike = (entry.group, *kept_as) if shared else entry.path
    return VariableReport(
        entry.path,
        shape,
        entry.variable.dtype.name,
        plan.kernel,
        dtypes,
        sum(variable.shape.num_elements() * variable.dtype.size for variable in kept.values()),
        "lazy" if is_lazy(context.options, entry.path) else "exact",
        decays,
        groups.setdefault(alike, len(groups) + 1),
        refreshed_every=None if pace is None else pace.every,
    )


def table(rows: Sequence[VariableReport], title: str, *, with_rules: bool = False) -> str:
    """Returns the reports as text, with sums in the last line.

    Args:
      rows: the reports.
      title: the optimizer.
      with_rules: whether to say by which rule, and at which rate, each variable is updated.
    """
    refreshes = any(row.refreshed_every for row in rows)
    heads = _HEADS + _RULE_HEADS * with_rules + _REFRESH_HEADS * refreshes
    lines: list[tuple[str, ...]] = [heads]
    for row in rows:
        state = ", ".join(f"{name} {dtype}" for name, dtype in row.state.items())
        shape = "x".join(map(str, row.shape)) or "scalar"
        values = (row.path, shape, row.dtype, row.kernel, state or "none")
        decay = "yes" if row.decays else "no"
        size = f"{row.state_bytes:,}"
        rule = (f"{row.rate:.4g}", row.rule) if with_rules else ()
        every = f"every {row.refreshed_every}" if row.refreshed_every else "never"
        refresh = (every,) if refreshes else ()
        lines.append((*values, size, row.sparse, decay, str(row.group), *rule, *refresh))
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in lines]
    parameters = sum(row.parameters for row in rows)
    total = sum(row.state_bytes for row in rows)
    share = f", {total / parameters:.2f} a parameter" if parameters else ""
    end = f"{len(rows)} variables, {parameters:,} parameters, {total:,} bytes of state{share}"
    return "\n".join([title, *(line.rstrip() for line in text), end])
