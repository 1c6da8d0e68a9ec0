"""The options that every optimizer has, declared once."""

from collections.abc import Callable
from typing import Any

from tf_keras_optim.engine import declarations
from tf_keras_optim.engine.groups import OF_GROUPS, Groups
from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.patterns import ByPattern, by_pattern

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

    name: Any
    """Name of the optimizer."""

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
    cautious_weight_decay = Hyperparameter(
        False,
        keyword_only=True,
        doc="apply weight decay only to the elements that the step moves towards 0. The decay "
        "is then applied after the step.",
    )
    cautious = Hyperparameter(
        False,
        keyword_only=True,
        doc="set the elements of a step to 0 that have the sign of their gradient and would "
        "raise the loss. The remaining elements of the variable are divided by their fraction "
        "of all elements (at least 0.001). Not with lazy rows.",
    )
    centralize_gradients = Hyperparameter(
        False,
        keyword_only=True,
        doc="subtract from the clipped gradient of each variable of rank 2 or more its mean "
        "over all axes but the last. Not with lazy rows.",
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
    lookahead_steps = Hyperparameter(
        None,
        kind=int,
        minimum=1,
        keyword_only=True,
        doc="number of updates between two steps of slow weights (Lookahead), or `None`. The "
        "slow weights start as the weights. Each of their steps moves them a part of the "
        "way to the weights, and sets the weights to the result. They take 4 bytes a "
        "parameter (8 for float64) and are the evaluation weights if there is no average. "
        "Not with lazy rows.",
    )
    lookahead_share = Hyperparameter(
        0.5,
        above=0.0,
        maximum=1.0,
        keyword_only=True,
        doc="the part of the way that slow weights move, above 0 and at most 1.",
    )
    use_ema = Hyperparameter(
        False, doc="keep an average of the weights, an exponential moving one by default"
    )
    ema_momentum = Hyperparameter(0.99, minimum=0.0, maximum=1.0, doc="decay of that average")
    ema_overwrite_frequency = Hyperparameter(
        None,
        kind=int,
        minimum=1,
        doc="number of updates after which weights that had a gradient are repeatedly set to "
        "their average. With `None` only `finalize_variable_values`, which `fit` calls, does "
        "so.",
    )
    averaging = Hyperparameter(
        "ema",
        choices=("ema", "equal"),
        keyword_only=True,
        doc='"ema": the exponential moving average; "equal": the mean with equal weights '
        "(stochastic weight averaging).",
    )
    averaging_start = Hyperparameter(
        0,
        minimum=0,
        keyword_only=True,
        doc="number of the update after which the weights enter the average for the first "
        "time; until then the average equals the weights. 0 means the update number "
        "`averaging_period`.",
    )
    averaging_period = Hyperparameter(
        1,
        minimum=1,
        keyword_only=True,
        doc="number of updates after which the weights enter the average again, e.g. those of "
        "an epoch or of a cycle of the learning rate.",
    )
    ema_warmup = Hyperparameter(
        False,
        keyword_only=True,
        doc="limit the decay of the exponential moving average to (1 + n) / (10 + n), where n "
        "is the number of weights averaged so far: early weights are forgotten sooner.",
    )
    loss_scale_factor = Hyperparameter(
        None,
        kind=float,
        above=0.0,
        keyword_only=True,
        doc="constant by which `scale_loss` multiplies the loss, and by which gradients are "
        "divided, or `None`.",
    )
    gradient_accumulation_steps = Hyperparameter(
        None,
        kind=int,
        minimum=1,
        keyword_only=True,
        doc="number of calls whose mean gradient makes one update, or `None`. Schedules, "
        "clipping, decay and averages act once per update. It may be changed after an "
        "update. The number of updates then stays, also in a loaded state.",
    )
    sparse = ByPattern(
        "exact",
        ("exact", "lazy"),
        doc='how sparse gradients (`tf.IndexedSlices`, as of embeddings) are applied. "exact": '
        'like the dense gradient. "lazy": only the rows in the gradient are updated; the '
        "other rows do not decay, and neither do their slots and averages. Only for "
        "elementwise algorithms, and not together with accumulation or "
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
        "(biases, norms) or with fewer than 4096 elements keep their default dtype. "
        "Only for algorithms that declare such slots, and not for lazy rows. Slots in "
        "bfloat16 or 8 bits are rounded stochastically (unbiased). A dict from regular "
        "expressions, searched in a variable's path, to dtypes: the first match counts, "
        "the default without one.",
    )
    stochastic_rounding = Hyperparameter(
        False,
        keyword_only=True,
        doc="round float16 and bfloat16 weights stochastically (unbiased) instead of keeping "
        "master copies of them",
    )
    rounding_seed = Hyperparameter(
        0,
        minimum=0,
        maximum=2**31 - 1,
        keyword_only=True,
        doc="seed of stochastic rounding. It decides every rounding together with the "
        "variable's place among all variables and the number of the update; it is the same "
        "on all replicas.",
    )
    aggregation_dtype = Hyperparameter(
        None,
        kind=str,
        choices=("bfloat16", "float16"),
        keyword_only=True,
        doc='dtype in which wider gradients are summed over replicas, "bfloat16" or "float16"; '
        "it halves the traffic. By default gradients keep their own dtype",
    )
    gradient_reducer = Reducer(
        doc="function from a list of gradients (tensors or `tf.IndexedSlices`) to the list "
        "of their sums over all workers, for libraries that do so outside "
        "`tf.distribute`. It is called once per update, before clipping, in place of the "
        "sum over replicas."
    )
    skip_nonfinite = Hyperparameter(
        False,
        keyword_only=True,
        doc="skip a step whose gradients, summed over replicas, contain NaN or inf: only the "
        "counter `skipped_steps` changes",
    )
    max_consecutive_skips = Hyperparameter(
        None,
        kind=int,
        minimum=1,
        keyword_only=True,
        doc="number of skipped steps in a row after which an error names the variables, or "
        "`None`. XLA drops such checks: a step inside a function with `jit_compile=True` "
        "only counts.",
    )
    groups = Groups(
        doc="dict from regular expressions, searched in the path of a variable, to settings of "
        "the variables that match: a dict of hyperparameters of this algorithm (and "
        "`weight_decay`, `learning_rate`, `learning_rate_multiplier`), another optimizer, or "
        "`None` to freeze them. If several patterns match, their dicts are merged, and later "
        "ones override earlier ones. Clips, accumulation, averages and the loss scale are "
        "shared by all groups. Setting `learning_rate` multiplies the rates of all groups by "
        "one factor"
    )
    shard_slots = Hyperparameter(
        False,
        keyword_only=True,
        doc="under MirroredStrategy, keep slots, averages, accumulated gradients and master "
        "copies of each variable on one of the devices only (ZeRO-1): the replica there "
        "updates the variable, and the others receive its new value. The numbers are the same; "
        "each of n replicas needs an n-th of that memory. It has no effect for one replica",
    )
    jit_compile = Hyperparameter(
        "auto",
        choices=("auto", True, False),
        keyword_only=True,
        doc='"auto" (XLA where the device supports it), True or False. '
        "`jit_compile_used` says what was used.",
    )


def shared_values(options: CommonOptions) -> dict[str, Any]:
    """Returns the options of the whole step, which are the same for all groups, by name."""
    names = declarations.collected(CommonOptions).keys() - OF_GROUPS
    return {name: getattr(options, name) for name in names}


def calls_per_update(options: CommonOptions) -> int:
    """Returns the number of calls that are to make an update."""
    return options.gradient_accumulation_steps or 1


def is_lazy(options: CommonOptions, path: str) -> bool:
    """Says whether sparse gradients of a variable touch the rows they name only."""
    return by_pattern(options.sparse, path) == "lazy"
