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
    """What the optimizer is called."""

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
        doc="let only those weights decay that the step moves towards 0. The decay acts after "
        "the step then.",
    )
    cautious = Hyperparameter(
        False,
        keyword_only=True,
        doc="leave out what of a step goes along the gradient and not against it; the other "
        "elements of that variable move farther, by one over their share of all (at least a "
        "thousandth). Not with lazy rows.",
    )
    centralize_gradients = Hyperparameter(
        False,
        keyword_only=True,
        doc="take its mean over all axes but the last from the clipped gradient of each "
        "variable with two axes or more. Not with lazy rows.",
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
        doc="after every so many updates, slow weights, which start as the weights, go a part "
        "of the way to them, and the weights go on from there (Lookahead); or `None`. The slow "
        "weights take 4 bytes a parameter (8 for float64) and are those for evaluation, where "
        "there is no average. Not with lazy rows.",
    )
    lookahead_share = Hyperparameter(
        0.5,
        above=0.0,
        maximum=1.0,
        keyword_only=True,
        doc="what part of the way that is, above 0 and at most 1.",
    )
    use_ema = Hyperparameter(
        False, doc="keep an average of the weights, an exponential moving one by default"
    )
    ema_momentum = Hyperparameter(0.99, minimum=0.0, maximum=1.0, doc="decay of that average")
    ema_overwrite_frequency = Hyperparameter(
        None,
        kind=int,
        minimum=1,
        doc="every so many updates the weights that got a gradient take the average over; "
        "`None` leaves that to `finalize_variable_values` (which `fit` calls).",
    )
    averaging = Hyperparameter(
        "ema",
        choices=("ema", "equal"),
        keyword_only=True,
        doc='"ema": the exponential moving average; "equal": the mean, in which all count '
        "alike (stochastic weight averaging).",
    )
    averaging_start = Hyperparameter(
        0,
        minimum=0,
        keyword_only=True,
        doc="number of the update after which the weights enter the average for the first "
        "time; before that the average is the weights. With 0 that is update "
        "`averaging_period`.",
    )
    averaging_period = Hyperparameter(
        1,
        minimum=1,
        keyword_only=True,
        doc="after how many updates they enter it again, e.g. those of an epoch or of a cycle "
        "of the learning rate.",
    )
    ema_warmup = Hyperparameter(
        False,
        keyword_only=True,
        doc="let the decay of the exponential moving average be at most (1 + n) / (10 + n), "
        "where n counts the weights that it holds: the first ones are forgotten sooner.",
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
        "in bfloat16 or 8 bits is rounded stochastically (unbiased). A dict from regular "
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
    groups = Groups(
        doc="dict from regular expressions, searched in the path of a variable, to what is "
        "different for the variables that match: a dict of hyperparameters of this algorithm "
        "(and `weight_decay`, `learning_rate`, `learning_rate_multiplier`), another optimizer, "
        "or `None` where they are not to move. Where several match, their dicts are merged, "
        "and a later one counts. Clips, accumulation, averages and the loss scale are those "
        "of all groups together. Setting `learning_rate` multiplies that of each group alike"
    )
    jit_compile = Hyperparameter(
        "auto",
        choices=("auto", True, False),
        keyword_only=True,
        doc='"auto" (XLA where the device supports it), True or False. What was used '
        "stands in `jit_compile_used`.",
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
