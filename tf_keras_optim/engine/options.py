"""The options that every optimizer has, declared once."""

from collections.abc import Callable
from typing import Any

from tf_keras_optim.engine import accumulation
from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.patterns import ByPattern, all_of, by_pattern

EIGHT_BIT = "int8"


class Reducer(Hyperparameter):
    """A function from a list of gradients to the list of their sums over all workers."""

    def __init__(self, doc: str = "") -> None:
        super().__init__(None, kind=Callable, keyword_only=True, doc=doc)  # type: ignore[arg-type]

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

    learning_rate = LearningRate(
        0.001, doc="number, 0-d tensor, schedule, or callable without arguments."
    )
    weight_decay = Hyperparameter(
        None,
        kind=float,
        minimum=0.0,
        schedulable=True,
        doc="decoupled weight decay per step, a schedule of it, or `None`. Each weight "
        "loses the fraction `weight_decay * learning_rate` before the update.",
    )
    decoupled_weight_decay = Hyperparameter(
        True,
        keyword_only=True,
        doc="False makes `weight_decay` an L2 penalty instead: the clipped gradient gains "
        "`weight_decay * w`",
    )
    clipnorm = Hyperparameter(
        None,
        kind=float,
        above=0.0,
        doc="largest L2 norm of each variable's gradient, or `None`.",
    )
    clipvalue = Hyperparameter(
        None,
        kind=float,
        above=0.0,
        doc="largest absolute value of each gradient element, or `None`.",
    )
    global_clipnorm = Hyperparameter(
        None,
        kind=float,
        above=0.0,
        doc="largest L2 norm of all gradients together, or `None`. At most one of the "
        "three clips can be set. Clipping acts on the gradient summed over replicas and "
        "averaged over accumulated steps.",
    )
    use_ema = Hyperparameter(False, doc="keep an exponential moving average of the weights")
    ema_momentum = Hyperparameter(0.99, minimum=0.0, maximum=1.0, doc="decay of that average")
    ema_overwrite_frequency = Hyperparameter(
        None,
        kind=int,
        minimum=1,
        doc="every so many updates the weights that got a gradient take the average over; "
        "`None` leaves that to `finalize_variable_values` (which `fit` calls).",
    )
    loss_scale_factor = Hyperparameter(
        None,
        kind=float,
        above=0.0,
        keyword_only=True,
        doc="constant that `scale_loss` multiplies the loss with and that gradients are "
        "divided by, or `None`.",
    )
    gradient_accumulation_steps = Hyperparameter(
        None,
        kind=int,
        minimum=1,
        keyword_only=True,
        doc="number of calls whose mean gradient makes one update, or `None`. Schedules, "
        "clipping, decay and averages act once per update. It may be changed after an "
        "update, and in a state that is loaded the number of updates stays.",
    )
    sparse = ByPattern(
        "exact",
        ("exact", "lazy"),
        doc="what a sparse gradient (`tf.IndexedSlices`, as embeddings give) does. "
        '"exact": the same as the dense gradient. "lazy": rows that it does not name '
        "are not touched at all: they do not decay, and neither do their slots and "
        "averages. Only for elementwise algorithms, and not together with accumulation or "
        "`ema_overwrite_frequency`. A dict from regular expressions, searched in a "
        'variable\'s path, to modes: the first match counts, "exact" without one.',
    )
    master_weights = Hyperparameter(
        "auto",
        choices=("auto", True, False),
        keyword_only=True,
        doc="keep a float32 copy of float16 and bfloat16 weights, so that small steps add "
        'up ("auto" and True), or not (False)',
    )
    slot_dtype = ByPattern(
        None,
        ("float32", "bfloat16", EIGHT_BIT),
        doc='"float32", "bfloat16" or "int8" for all slots; by default float32, and '
        'float64 for float64 variables. "int8" keeps moments in 8 bits, with a float32 '
        "scale for each block of 128 to 256 elements; slots of variables of rank below 2 "
        "(biases, norms) or with fewer than 4096 elements stay as they are by default. "
        "Only for algorithms that declare such slots, and not for lazy rows. What is kept "
        "in bfloat16 or 8 bits is rounded by chance, without a bias. A dict from regular "
        "expressions, searched in a variable's path, to dtypes: the first match counts, "
        "the default without one.",
    )
    stochastic_rounding = Hyperparameter(
        False,
        keyword_only=True,
        doc="round float16 and bfloat16 weights by chance, without a bias, instead of "
        "keeping master copies of them",
    )
    rounding_seed = Hyperparameter(
        0,
        minimum=0,
        maximum=2**31 - 1,
        keyword_only=True,
        doc="integer that, with the variable's place among all variables and the number of "
        "the update, decides every such rounding; the same on all replicas.",
    )
    aggregation_dtype = Hyperparameter(
        None,
        kind=str,
        choices=("bfloat16", "float16"),
        keyword_only=True,
        doc='"bfloat16" or "float16": wider gradients travel between replicas in that '
        "dtype, which halves the traffic; by default in their own",
    )
    gradient_reducer = Reducer(
        doc="function from a list of gradients (tensors or `tf.IndexedSlices`) to the list "
        "of their sums over all workers, for libraries that do that outside "
        "`tf.distribute`. It is called once per update, before clipping, in place of the "
        "sum over replicas."
    )
    skip_nonfinite = Hyperparameter(
        False,
        keyword_only=True,
        doc="leave a step out whose gradients, summed over replicas, hold NaN or inf: "
        "nothing changes but the counter `skipped_steps`",
    )
    max_consecutive_skips = Hyperparameter(
        None,
        kind=int,
        minimum=1,
        keyword_only=True,
        doc="raise after so many skipped steps in a row, naming the variables, or `None`. "
        "XLA drops such checks: a step inside a function with `jit_compile=True` only "
        "counts.",
    )
    jit_compile = Hyperparameter(
        "auto",
        choices=("auto", True, False),
        keyword_only=True,
        doc='"auto" (XLA where the device supports it), True or False. What was used '
        "stands in `jit_compile_used`.",
    )

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
        self._check_loss_scale()
        if self.max_consecutive_skips is not None and not self.skip_nonfinite:
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
        if EIGHT_BIT in all_of(self.slot_dtype):
            self._check_eight_bit()
        if "lazy" in all_of(self.sparse):
            self._check_lazy()

    def _check_loss_scale(self) -> None:
        """Refuses what a wrapper with a loss scale does in place of this optimizer.

        Raises:
          ValueError: an option of the wrapper was set on the optimizer inside.
        """
        if self._guard is None or self._guard.scale is None:
            return
        defaults = {
            "loss_scale_factor": None,
            "skip_nonfinite": False,
            "max_consecutive_skips": None,
        }
        for name, default in defaults.items():
            if getattr(self, name) != default:
                raise ValueError(
                    f"{type(self).__name__}: `{name}`={getattr(self, name)!r} is not possible "
                    "inside a LossScaleOptimizer, which scales losses, skips steps and counts "
                    "them itself. Give the option to the LossScaleOptimizer, or leave it out."
                )

    def _check_averaging(self) -> None:
        """Refuses options of the moving average where there is none.

        Raises:
          ValueError: one was given without `use_ema`.
        """
        declared = {
            n: getattr(type(self), n) for n in ("ema_momentum", "ema_overwrite_frequency")
        }
        for name, parameter in declared.items():
            value = getattr(self, name)
            if value != parameter.default and not self.use_ema:
                raise ValueError(
                    f"{type(self).__name__}: argument `{name}`={value} needs `use_ema=True`."
                )

    def _check_reducer(self) -> None:
        """Refuses a reducer where workers would disagree on which calls count.

        Raises:
          ValueError: steps may be skipped, but gradients are accumulated before they
            are reduced.
        """
        skips = self.skip_nonfinite or self._guard is not None
        if self.gradient_reducer and skips and accumulation.wanted(self) > 1:
            raise ValueError(
                f"{type(self).__name__}: argument `gradient_reducer` cannot be combined with "
                "both `gradient_accumulation_steps` and skipped steps: a call that one worker "
                "skips before the reduction is counted by the others. Leave one of them out."
            )

    def _check_eight_bit(self) -> None:
        """Refuses 8 bits where the algorithm says of no slot that it bears them.

        Raises:
          ValueError: no declared slot has `eight_bit`.
        """
        raise NotImplementedError

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
        elif accumulation.wanted(self) > 1:
            reason = "the mean over `gradient_accumulation_steps` is kept for all rows"
        elif self.sparse == "lazy" and self.slot_dtype == EIGHT_BIT:
            reason = "`slot_dtype`='int8' has one scale for a block of several rows"
        elif self.use_ema and self.ema_overwrite_frequency:
            reason = "`ema_overwrite_frequency` gives all rows their average"
        if reason:
            raise ValueError(
                f"{type(self).__name__}: argument `sparse`={self.sparse!r} is not possible: "
                f"{reason}. Use sparse='exact', the default."
            )

    def _is_lazy(self, entry: Any) -> bool:
        """Says whether sparse gradients of a variable touch the rows they name only."""
        return by_pattern(self.sparse, entry.path) == "lazy"
