"""The options that every optimizer has, declared once."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate


class Patterns(Hyperparameter):
    """A list of regular expressions, searched in a variable's path."""

    def __init__(self) -> None:
        super().__init__([], kind=list, keyword_only=True)

    def check(self, value: Any, owner: str) -> list[str]:
        """Returns the expressions as a list."""
        valid = isinstance(value, (list, tuple)) and all(map(_is_pattern, value))
        if not valid:
            raise ValueError(
                f"{owner}: argument `{self.name}` must be a list of regular expressions, "
                f"searched in a variable's path. Received: {self.name}={value!r}."
            )
        return list(value)


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


class SparseModes(Hyperparameter):
    """How sparse gradients are applied: one mode, or modes by patterns of paths."""

    modes = ("exact", "lazy")

    def __init__(self) -> None:
        super().__init__("exact", kind=str, keyword_only=True)

    def check(self, value: Any, owner: str) -> Any:
        """Returns a mode, or a dict from regular expressions to modes."""
        by_pattern = isinstance(value, Mapping)
        given = list(value.values()) if by_pattern else [value]
        known = all(isinstance(mode, str) and mode in self.modes for mode in given)
        known = known and (not by_pattern or all(map(_is_pattern, value)))
        if not known:
            raise ValueError(
                f"{owner}: argument `sparse` must be 'exact', 'lazy', or a dict from regular "
                "expressions, searched in a variable's path, to these. Received: "
                f"sparse={value!r}."
            )
        return dict(value) if by_pattern else value


class Reducer(Hyperparameter):
    """A function from a list of gradients to the list of their sums over all workers."""

    def __init__(self) -> None:
        super().__init__(None, kind=Callable, keyword_only=True)  # type: ignore[arg-type]

    def check(self, value: Any, owner: str) -> Any:
        """Returns the function, or `None`."""
        if value is None or callable(value):
            return value
        raise ValueError(
            f"{owner}: argument `{self.name}` must be a function from a list of gradients to "
            f"a list of gradients, or None. Received: {self.name}={value!r}."
        )


class CommonOptions:
    """Declarations of the arguments that all optimizers share."""

    _guard: Any = None  # what skips steps, or `None`

    def _is_pure(self) -> bool:
        """Whether the algorithm is an `update`, and not a user-written `update_step`."""
        raise NotImplementedError

    @property
    def _is_elementwise(self) -> bool:
        """Whether each element moves by its own gradient and slots alone."""
        raise NotImplementedError

    @property
    def decays_in_update(self) -> bool:
        """Whether `update` applies weight decay itself, and not the engine before it."""
        return False

    learning_rate = LearningRate(0.001)
    weight_decay = Hyperparameter(None, kind=float, minimum=0.0, schedulable=True)
    decoupled_weight_decay = Hyperparameter(True, keyword_only=True)
    clipnorm = Hyperparameter(None, kind=float, above=0.0)
    clipvalue = Hyperparameter(None, kind=float, above=0.0)
    global_clipnorm = Hyperparameter(None, kind=float, above=0.0)
    use_ema = Hyperparameter(False)
    ema_momentum = Hyperparameter(0.99, minimum=0.0, maximum=1.0)
    ema_overwrite_frequency = Hyperparameter(None, kind=int, minimum=1)
    loss_scale_factor = Hyperparameter(None, kind=float, above=0.0, keyword_only=True)
    gradient_accumulation_steps = Hyperparameter(None, kind=int, minimum=1, keyword_only=True)
    sparse = SparseModes()
    master_weights = Hyperparameter("auto", choices=("auto", True, False), keyword_only=True)
    slot_dtype = Hyperparameter(
        None, kind=str, choices=("float32", "bfloat16"), keyword_only=True
    )
    stochastic_rounding = Hyperparameter(False, keyword_only=True)
    rounding_seed = Hyperparameter(0, minimum=0, maximum=2**31 - 1, keyword_only=True)
    aggregation_dtype = Hyperparameter(
        None, kind=str, choices=("bfloat16", "float16"), keyword_only=True
    )
    gradient_reducer = Reducer()
    skip_nonfinite = Hyperparameter(False, keyword_only=True)
    max_consecutive_skips = Hyperparameter(None, kind=int, minimum=1, keyword_only=True)
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
        if self.max_consecutive_skips is not None and not (self.skip_nonfinite or self._guard):
            raise ValueError(
                f"{type(self).__name__}: argument `max_consecutive_skips`="
                f"{self.max_consecutive_skips} needs `skip_nonfinite=True`."
            )
        if self.stochastic_rounding and self.master_weights is True:
            raise ValueError(
                f"{type(self).__name__}: arguments `stochastic_rounding`=True and "
                "`master_weights`=True exclude one another: rounding by chance is what saves "
                "the copy. Keep one of them."
            )
        narrow = {n: getattr(self, n) for n in ("slot_dtype", "stochastic_rounding")}
        chosen = [name for name, value in narrow.items() if value]
        if chosen and not self._is_pure():
            raise ValueError(
                f"{type(self).__name__}: argument `{chosen[0]}`={narrow[chosen[0]]!r} needs an "
                "algorithm written as `update`; this one has an `update_step`, which keeps "
                "its variables itself."
            )
        if not self.decoupled_weight_decay and self.decays_in_update:
            raise ValueError(
                f"{type(self).__name__}: argument `decoupled_weight_decay`=False is not "
                "possible where the update applies a decoupled decay itself. Leave one of the "
                "two options out."
            )
        self._check_reducer()
        modes = self.sparse.values() if isinstance(self.sparse, dict) else [self.sparse]
        if "lazy" in modes:
            self._check_lazy()

    def _check_reducer(self) -> None:
        """Refuses a reducer where workers would disagree on which calls count.

        Raises:
          ValueError: steps may be skipped, but gradients are accumulated before they
            are reduced.
        """
        skips = self.skip_nonfinite or self._guard is not None
        if self.gradient_reducer and skips and (self.gradient_accumulation_steps or 1) > 1:
            raise ValueError(
                f"{type(self).__name__}: argument `gradient_reducer` cannot be combined with "
                "both `gradient_accumulation_steps` and skipped steps: a call that one worker "
                "skips before the reduction is counted by the others. Leave one of them out."
            )

    def _check_lazy(self) -> None:
        """Refuses lazy rows where an update needs more than the rows that are given.

        Raises:
          ValueError: the algorithm is not elementwise, or an option needs all rows.
        """
        reason = None
        if not self._is_elementwise:
            reason = (
                "its update of one row may depend on other rows (a class whose `update` is "
                "elementwise says so by `elementwise = True`)"
            )
        elif (self.gradient_accumulation_steps or 1) > 1:
            reason = "the mean over `gradient_accumulation_steps` is kept for all rows"
        elif self.use_ema and self.ema_overwrite_frequency:
            reason = "`ema_overwrite_frequency` gives all rows their average"
        if reason:
            raise ValueError(
                f"{type(self).__name__}: argument `sparse`={self.sparse!r} is not possible: "
                f"{reason}. Use sparse='exact', the default."
            )

    def _is_lazy(self, entry: Any) -> bool:
        """Says whether sparse gradients of a variable touch the rows they name only."""
        if not isinstance(self.sparse, dict):
            return self.sparse == "lazy"
        found = (m for pattern, m in self.sparse.items() if re.search(pattern, entry.path))
        return next(found, "exact") == "lazy"


COMMON_ARGUMENTS = """
  weight_decay: decoupled weight decay per step, a schedule of it, or `None`. Each
    weight loses the fraction `weight_decay * learning_rate` before the update.
  decoupled_weight_decay: False makes `weight_decay` an L2 penalty instead: the clipped
    gradient gains `weight_decay * w`. By name only.
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
  sparse: what a sparse gradient (`tf.IndexedSlices`, as embeddings give) does.
    "exact": the same as the dense gradient. "lazy": rows that it does not name are
    not touched at all: they do not decay, and neither do their slots and averages.
    Only for elementwise algorithms, and not together with accumulation or
    `ema_overwrite_frequency`. A dict from regular expressions, searched in a
    variable's path, to modes: the first match counts, "exact" without one. By name
    only.
  master_weights: keep a float32 copy of float16 and bfloat16 weights, so that small
    steps add up ("auto" and True), or not (False). By name only.
  slot_dtype: "float32" or "bfloat16" for all slots; by default float32, and float64
    for float64 variables. What is kept in bfloat16 is rounded by chance, without a
    bias. By name only.
  stochastic_rounding: round float16 and bfloat16 weights by chance, without a bias,
    instead of keeping master copies of them. By name only.
  rounding_seed: integer that, with the variable's path and the number of the update,
    decides every such rounding; the same on all replicas. By name only.
  aggregation_dtype: "bfloat16" or "float16": wider gradients travel between replicas
    in that dtype, which halves the traffic; by default in their own. By name only.
  gradient_reducer: function from a list of gradients (tensors or `tf.IndexedSlices`)
    to the list of their sums over all workers, for libraries that do that outside
    `tf.distribute`. It is called once per update, before clipping, in place of the sum
    over replicas. By name only.
  skip_nonfinite: leave a step out whose gradients, summed over replicas, hold NaN or
    inf: nothing changes but the counter `skipped_steps`. By name only.
  max_consecutive_skips: raise after so many skipped steps in a row, naming the
    variables, or `None`. XLA drops such checks: a step inside a function with
    `jit_compile=True` only counts. By name only.
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
