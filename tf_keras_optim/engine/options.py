"""The options that every optimizer has, declared once."""

import re
from typing import Any

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate


class CommonOptions:
    """Declarations of the arguments that all optimizers share."""

    learning_rate = LearningRate(0.001)
    weight_decay = Hyperparameter(None, kind=float, minimum=0.0, schedulable=True)
    clipnorm = Hyperparameter(None, kind=float, above=0.0)
    clipvalue = Hyperparameter(None, kind=float, above=0.0)
    global_clipnorm = Hyperparameter(None, kind=float, above=0.0)
    use_ema = Hyperparameter(False)
    ema_momentum = Hyperparameter(0.99, minimum=0.0, maximum=1.0)
    ema_overwrite_frequency = Hyperparameter(None, kind=int, minimum=1)
    loss_scale_factor = Hyperparameter(None, kind=float, above=0.0, keyword_only=True)
    gradient_accumulation_steps = Hyperparameter(None, kind=int, minimum=1, keyword_only=True)
    jit_compile = Hyperparameter("auto", choices=("auto", True, False), keyword_only=True)

    def _check_options(self) -> None:
        """Refuses options that exclude one another.

        Raises:
          ValueError: more than one of the clip arguments is set.
        """
        clips = {
            name: getattr(self, name)
            for name in ("clipnorm", "clipvalue", "global_clipnorm")
            if getattr(self, name) is not None
        }
        if len(clips) > 1:
            given = ", ".join(f"{name}={value}" for name, value in clips.items())
            raise ValueError(
                f"{type(self).__name__}: at most one of `clipnorm`, `clipvalue` and "
                f"`global_clipnorm` can be set. Received: {given}. Keep one of them."
            )


COMMON_ARGUMENTS = """
  weight_decay: decoupled weight decay per step, a schedule of it, or `None`. Each
    weight loses the fraction `weight_decay * learning_rate` before the update.
  clipnorm: largest L2 norm of each variable's gradient, or `None`.
  clipvalue: largest absolute value of each gradient element, or `None`.
  global_clipnorm: largest L2 norm of all gradients together, or `None`. At most
    one of the three clips can be set. Clipping acts on the gradient summed over
    replicas and averaged over accumulated steps.
  use_ema: keep an exponential moving average of the weights.
  ema_momentum: decay of that average, in [0, 1].
  ema_overwrite_frequency: every so many updates the weights take the average
    over; `None` leaves that to `finalize_variable_values` (which `fit` calls).
  loss_scale_factor: constant that `scale_loss` multiplies the loss with and that
    gradients are divided by, or `None`. By name only.
  gradient_accumulation_steps: number of calls whose mean gradient makes one
    update, or `None`. Schedules, clipping, decay and averages act once per
    update. By name only.
  jit_compile: "auto" (XLA where the device supports it), True or False. What was
    used stands in `jit_compile_used`. By name only.
  name: name of the optimizer. By name only.
""".strip("\n")


class DecayExclusions:
    """Which variables weight decay leaves alone."""

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._variables: list[Any] = []  # keeps the ids valid
        self._pattern: re.Pattern | None = None

    def set(self, variables: list[Any], names: list[str]) -> None:
        """Replaces the exclusions.

        Args:
          variables: TensorFlow variables.
          names: regular expressions, searched in a variable's path.
        """
        self._variables = list(variables)
        self._ids = {id(variable) for variable in variables}
        self._pattern = re.compile("|".join(names)) if names else None

    def excludes(self, variable: Any, path: str) -> bool:
        """Says whether a variable is excluded, by identity or by its path."""
        by_name = self._pattern is not None and self._pattern.search(path) is not None
        return by_name or id(variable) in self._ids
