"""Optimizers for groups of variables, in Keras' words."""

import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from tf_keras_optim.engine.state.paths import path_of
from tf_keras_optim.optimizers.base import Optimizer


class OptimizerMap(MutableMapping):
    """Maps variables to optimizers, like `keras.optimizers.OptimizerMap`.

    Args:
      default_optimizer: the optimizer of all other variables.
      optimizer_map: dict from a variable's path, or a regular expression that fits the whole
        path, to an optimizer of this package.

    Raises:
      TypeError: `default_optimizer` is no optimizer of this package, or `optimizer_map` no
        dict.
      ValueError: a key or an optimizer in it is none.
    """

    def __init__(
        self, default_optimizer: Optimizer, optimizer_map: Mapping[str, Any] | None = None
    ):
        if not isinstance(default_optimizer, Optimizer):
            raise TypeError(
                "`OptimizerMap`: argument `default_optimizer` must be an optimizer of "
                f"tf_keras_optim. Received: {default_optimizer!r}."
            )
        if optimizer_map is not None and not isinstance(optimizer_map, Mapping):
            raise TypeError(
                "`OptimizerMap`: argument `optimizer_map` must be a dict from paths to "
                f"optimizers. Received: {optimizer_map!r}."
            )
        self.default_optimizer = default_optimizer
        self._optimizers: dict[str, Any] = {}
        for key, optimizer in (optimizer_map or {}).items():
            self[key] = optimizer

    def __getitem__(self, key: str) -> Any:
        """Returns the optimizer of a variable, by its path."""
        if key in self._optimizers:
            return self._optimizers[key]
        found = [pattern for pattern in self._optimizers if re.fullmatch(pattern, key)]
        if len(found) > 1:
            raise ValueError(f"Several optimizers stand for variable {key!r}: {found!r}.")
        return self._optimizers[found[0]] if found else self.default_optimizer

    def __setitem__(self, key: str, optimizer: Any) -> None:
        """Adds the optimizer of a path, or of all paths that a regular expression fits."""
        if key in self._optimizers:
            raise ValueError(f"{key!r} has an optimizer already: {self._optimizers[key]!r}.")
        if not isinstance(key, str):
            raise ValueError(f"A key must be a string. Received: {key!r}.")
        if not isinstance(optimizer, Optimizer):
            raise ValueError(
                f"The optimizer of {key!r} must be one of tf_keras_optim, without a "
                f"LossScaleOptimizer around it. Received: {optimizer!r}."
            )
        self._optimizers[key] = optimizer

    def __delitem__(self, key: str) -> None:
        del self._optimizers[key]

    def __len__(self) -> int:
        return len(self._optimizers)

    def __iter__(self) -> Any:
        return iter(self._optimizers)

    def __call__(self, variable: Any) -> Any:
        """Returns the optimizer of a variable."""
        return self[path_of(variable)]

    @property
    def groups(self) -> dict[str, Any]:
        """The same as the argument `groups` of `default_optimizer`."""
        return {
            f"^(?:{key})$": optimizer
            for key, optimizer in sorted(self._optimizers.items(), key=_last)
        }


def _last(item: tuple[str, Any]) -> bool:
    """Sorts plain paths behind expressions: they count before those."""
    return not re.search(r"[\\^$.*+?{}\[\]()|]", item[0])


def MultiOptimizer(  # noqa: N802  (as Keras names the class)
    optimizer_map: OptimizerMap | Callable[[Any], Any],
    loss_scale_factor: float | None = None,
    name: str | None = None,
) -> Optimizer:
    """Returns an optimizer that updates groups of variables by optimizers of their own.

    It is the default optimizer of the map, which gets the others as its `groups`: one step,
    one count of steps, one norm for `global_clipnorm`. Options of the whole step (clips,
    accumulation, averages) are those of the default optimizer. Its `learning_rate` is that of
    the default group; setting it, as callbacks do, multiplies those of all groups alike.

    Args:
      optimizer_map: an `OptimizerMap`. Where two expressions fit a variable, the later
        counts.
      loss_scale_factor: as for every optimizer.
      name: name of the optimizer.

    Returns:
      The default optimizer, with groups.

    Raises:
      TypeError: `optimizer_map` is no `OptimizerMap`.
      ValueError: the default optimizer has slots or groups already, or one of the others
        cannot be part of it.

    Example:
      >>> optimizer = MultiOptimizer(OptimizerMap(tko.AdamW(1e-3), {"head/.*": tko.SGD(0.1)}))
      >>> list(optimizer.groups)
      ['^(?:head/.*)$']
    """
    if not isinstance(optimizer_map, OptimizerMap):
        raise TypeError(
            "`MultiOptimizer`: argument `optimizer_map` must be an `OptimizerMap` of "
            "tf_keras_optim: a function cannot be saved with a model, so patterns of paths "
            f"stand in its place. Received: {optimizer_map!r}."
        )
    default = optimizer_map.default_optimizer
    if default.built or default.groups:
        raise ValueError(
            f"`MultiOptimizer`: the default optimizer {default!r} has "
            f"{'slots' if default.built else 'groups'} already. Give a new one."
        )
    default.groups = optimizer_map.groups or None
    if loss_scale_factor is not None:
        default.loss_scale_factor = loss_scale_factor
    if name is not None:
        default.name = name
    return default
