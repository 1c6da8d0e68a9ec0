"""Whether the options of the whole step go together with the algorithm of a group."""

from typing import Any

from tf_keras_optim.engine import nature
from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.options import CommonOptions, is_lazy
from tf_keras_optim.engine.seen import class_of

# Options that do not go with weights for evaluation that an algorithm computes itself.
BEYOND_EVALUATED = ("use_ema", "cautious", "lookahead_steps")


def check(
    options: CommonOptions, part: CommonOptions, algorithm: Algorithm, where: str
) -> None:
    """Refuses options of the step that an algorithm of a group cannot have.

    Args:
      options: the options of the optimizer that has the groups.
      part: the hyperparameters of the group, its weight decay among them.
      algorithm: its algorithm.
      where: the group, for messages.

    Raises:
      ValueError: there are such.
    """
    name = class_of(algorithm).__name__
    given = [option for option in BEYOND_EVALUATED if getattr(options, option)]
    if given and nature.has_evaluated(algorithm):
        raise ValueError(
            f"{where}: {name} averages the weights itself, and its weights for evaluation "
            f"follow from whole steps, so `{given[0]}`={getattr(options, given[0])} of the "
            "optimizer that has the groups is not possible. Leave one of the two out."
        )
    if not options.cautious_weight_decay:
        return
    reason = None
    if part.decays_in_update:
        reason = f"{name} applies the weight decay within its update"
    elif not part.decoupled_weight_decay:
        reason = "`decoupled_weight_decay`=False makes it a penalty in the gradient"
    if reason:
        raise ValueError(
            f"{where}: {reason}, so `cautious_weight_decay`=True of the optimizer that has "
            "the groups is not possible. Leave one of the two out."
        )


def check_rows(options: CommonOptions, algorithm: Algorithm, path: str, where: str) -> None:
    """Refuses an algorithm that needs all rows for a variable whose rows may be lazy.

    Args:
      options: the options of the optimizer that has the groups.
      algorithm: the algorithm that updates the variable.
      path: the variable.
      where: the group, for messages.

    Raises:
      ValueError: the algorithm is not elementwise.
    """
    if is_lazy(options, path) and not nature.is_elementwise(algorithm):
        raise ValueError(
            f"{where}: `sparse`={options.sparse!r} is not possible for variable {path!r}: "
            f"{class_of(algorithm).__name__}'s update of one row may depend on other rows (a "
            "class whose `update` is elementwise says so by `elementwise = True`). Name other "
            "variables in `sparse`, or give this one another algorithm."
        )


def check_number(owner: str, source: Any, base: float, traced_anew: bool) -> None:
    """Refuses that rates of groups follow a number in the place of what they do.

    Args:
      owner: the class of the optimizer.
      source: the schedule or callable that the number takes the place of.
      base: what that gives now, without a factor on it.
      traced_anew: whether the functions that take steps are traced afterwards.

    Raises:
      ValueError: they could not.
    """
    if base == 0.0 or not traced_anew:
        why = "is 0 at this step" if base == 0.0 else "functions that were traced may hold"
        raise ValueError(
            f"{owner}: a group has a learning rate of its own, which cannot follow a number in "
            f"the place of {source!r}, which {why}. Give the optimizer a number, or the group "
            "`learning_rate_multiplier`."
        )
