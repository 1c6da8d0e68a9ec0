"""Whether the options of an optimizer go together, and with its algorithm."""

from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.group_checks import BEYOND_EVALUATED
from tf_keras_optim.engine.nature import has_evaluated, is_elementwise, is_pure
from tf_keras_optim.engine.options import EIGHT_BIT, CommonOptions, calls_per_update
from tf_keras_optim.engine.patterns import all_of
from tf_keras_optim.engine.seen import class_of
from tf_keras_optim.engine.step.scaling import Scaling

# Options that stand between the gradient and an `update`, or between that and the variable.
AROUND_UPDATE = (
    "cautious",
    "cautious_weight_decay",
    "centralize_gradients",
    "lookahead_steps",
)
# Options that say how averages are made.
OF_AVERAGES = (
    "ema_momentum",
    "ema_overwrite_frequency",
    "averaging",
    "averaging_start",
    "averaging_period",
    "ema_warmup",
)


def check(options: CommonOptions, algorithm: Algorithm, scaling: Scaling) -> None:
    """Refuses options that exclude one another, or that an algorithm cannot have.

    Args:
      options: the options of an optimizer.
      algorithm: its algorithm.
      scaling: its loss scale.

    Raises:
      ValueError: there are such.
    """
    clips = {
        name: getattr(options, name)
        for name in ("clipnorm", "clipvalue", "global_clipnorm")
        if getattr(options, name) is not None
    }
    if len(clips) > 1:
        given = ", ".join(f"{name}={value}" for name, value in clips.items())
        raise ValueError(
            f"{class_of(options).__name__}: at most one of `clipnorm`, `clipvalue` and "
            f"`global_clipnorm` can be set. Received: {given}. Keep one of them."
        )
    if scaling.has_scale:
        _check_loss_scale(options)
    if options.max_consecutive_skips is not None and not options.skip_nonfinite:
        raise ValueError(
            f"{class_of(options).__name__}: argument `max_consecutive_skips`="
            f"{options.max_consecutive_skips} needs `skip_nonfinite=True`."
        )
    if options.stochastic_rounding and options.master_weights is True:
        raise ValueError(
            f"{class_of(options).__name__}: arguments `stochastic_rounding`=True and "
            "`master_weights`=True exclude one another: stochastic rounding is what saves "
            "the copy. Keep one of them."
        )
    narrow = {n: getattr(options, n) for n in ("slot_dtype", "stochastic_rounding")}
    chosen = [name for name, value in narrow.items() if value]
    if chosen and not is_pure(algorithm):
        raise ValueError(
            f"{class_of(options).__name__}: argument `{chosen[0]}`={narrow[chosen[0]]!r} needs "
            "an algorithm written as `update`; this one has an `update_step`, which keeps "
            "its variables itself."
        )
    _check_evaluation(options, algorithm)
    _check_decay(options)
    _check_around(options, algorithm)
    check_reducer(options, options.skip_nonfinite or scaling.scaler is not None)
    if "lazy" in all_of(options.sparse):
        _check_lazy(options, algorithm)


def _check_evaluation(options: CommonOptions, algorithm: Algorithm) -> None:
    """Refuses options that do not go with weights for evaluation.

    Raises:
      ValueError: the algorithm computes such weights itself.
    """
    given = [name for name in BEYOND_EVALUATED if getattr(options, name)]
    if given and has_evaluated(algorithm):
        raise ValueError(
            f"{class_of(options).__name__}: argument `{given[0]}`="
            f"{getattr(options, given[0])} is not possible: the "
            "algorithm averages the weights itself, and its weights for evaluation follow "
            "from whole steps. Leave it out."
        )


def _check_decay(options: CommonOptions) -> None:
    """Refuses kinds of weight decay that exclude one another.

    Raises:
      ValueError: there are such.
    """
    owner = class_of(options).__name__
    for name, default in (("decoupled_weight_decay", True), ("cautious_weight_decay", False)):
        value = getattr(options, name)
        if value != default and options.decays_in_update:
            raise ValueError(
                f"{owner}: argument `{name}`={value} is not possible where the update applies "
                "the weight decay itself, as this one does. Leave it, or the option by which "
                "the update does that, out."
            )
    if options.cautious_weight_decay and not options.decoupled_weight_decay:
        raise ValueError(
            f"{owner}: arguments `cautious_weight_decay`=True and `decoupled_weight_decay`="
            "False exclude one another: a penalty in the gradient is no part of the step that "
            "could be left out. Keep one of them."
        )


def _check_around(options: CommonOptions, algorithm: Algorithm) -> None:
    """Refuses options that stand around an `update` where there is none.

    Raises:
      ValueError: the algorithm is an `update_step`.
    """
    given = [name for name in AROUND_UPDATE if getattr(options, name)]
    if given and not is_pure(algorithm):
        raise ValueError(
            f"{class_of(options).__name__}: argument `{given[0]}`="
            f"{getattr(options, given[0])} needs an algorithm "
            "written as `update`; this one has an `update_step`, which assigns its variables "
            "by itself. Leave it out, or write the algorithm as `update`."
        )


def _check_loss_scale(options: CommonOptions) -> None:
    """Refuses what a wrapper with a loss scale does in place of this optimizer.

    Raises:
      ValueError: an option of the wrapper was set on the optimizer inside.
    """
    defaults = {
        "loss_scale_factor": None,
        "skip_nonfinite": False,
        "max_consecutive_skips": None,
    }
    for name, default in defaults.items():
        if getattr(options, name) != default:
            raise ValueError(
                f"{class_of(options).__name__}: `{name}`={getattr(options, name)!r} is not "
                "possible inside a LossScaleOptimizer, which scales losses, skips steps and "
                "counts them itself. Give the option to the LossScaleOptimizer, or leave it "
                "out."
            )


def check_averaging(options: CommonOptions) -> None:
    """Refuses options of averages and of slow weights where there are none.

    Raises:
      ValueError: one was given without the option that it belongs to.
    """
    needs: dict[str, tuple[str, object]] = dict.fromkeys(OF_AVERAGES, ("use_ema", True))
    needs["lookahead_share"] = ("lookahead_steps", 5)
    for name in ("ema_momentum", "ema_warmup"):
        if options.use_ema and options.averaging != "ema":
            needs[name] = ("averaging", "ema")
    for name, (needed, example) in needs.items():
        value, parameter = getattr(options, name), getattr(class_of(options), name)
        is_there = bool(getattr(options, needed)) and needed != "averaging"
        if value != parameter.default and not is_there:
            raise ValueError(
                f"{class_of(options).__name__}: argument `{name}`={value!r} needs "
                f"`{needed}={example!r}`."
            )


def _check_lazy(options: CommonOptions, algorithm: Algorithm) -> None:
    """Refuses lazy rows where an update needs more than the rows that are given.

    Raises:
      ValueError: the algorithm is not elementwise, or an option needs all rows.
    """
    reason = None
    if not is_elementwise(algorithm):
        reason = (
            "its update of one row may depend on other rows (a class whose `update` is "
            "elementwise says so by `elementwise = True`)"
        )
    elif calls_per_update(options) > 1:
        reason = "the mean over `gradient_accumulation_steps` is kept for all rows"
    elif options.sparse == "lazy" and options.slot_dtype == EIGHT_BIT:
        reason = "`slot_dtype`='int8' has one scale for a block of several rows"
    elif options.cautious or options.centralize_gradients:
        name = "cautious" if options.cautious else "centralize_gradients"
        reason = f"`{name}` takes a mean over all rows"
    elif options.lookahead_steps:
        reason = "`lookahead_steps` moves all rows at once"
    elif options.use_ema and options.ema_overwrite_frequency:
        reason = "`ema_overwrite_frequency` gives all rows their average"
    if reason:
        raise ValueError(
            f"{class_of(options).__name__}: argument `sparse`={options.sparse!r} is not "
            f"possible: {reason}. Use sparse='exact', the default."
        )


def check_reducer(options: CommonOptions, skips: bool) -> None:
    """Refuses a reducer where workers would disagree on which calls count.

    Args:
      options: the optimizer's options.
      skips: whether steps may be skipped.

    Raises:
      ValueError: steps may be skipped, but gradients are accumulated before they are reduced.
    """
    if options.gradient_reducer and skips and calls_per_update(options) > 1:
        raise ValueError(
            f"{class_of(options).__name__}: argument `gradient_reducer` cannot be combined "
            "with both `gradient_accumulation_steps` and skipped steps: a call that one worker "
            "skips before the reduction is counted by the others. Leave one of them out."
        )


def check_sharding(options: CommonOptions, algorithm: Algorithm, in_steps: bool) -> None:
    """Refuses state that is divided among replicas where a step cannot be taken once for all.

    Args:
      options: the options of an optimizer.
      algorithm: its algorithm.
      in_steps: whether its updates are made by the engine's steps.

    Raises:
      ValueError: it cannot.
    """
    if not options.shard_slots:
        return
    reason = None
    if not (is_pure(algorithm) and in_steps):
        reason = (
            "needs an algorithm written as `update`, in the engine's own steps; this class "
            "overrides a part of them, or has an `update_step`, which each replica runs. "
            "Leave it out, or write the algorithm as `update`"
        )
    elif options.gradient_reducer is not None:
        reason = (
            "cannot be combined with `gradient_reducer`, which is for replicas in processes of "
            "their own. Leave one of the two out"
        )
    if reason:
        raise ValueError(f"{class_of(options).__name__}: argument `shard_slots`=True {reason}.")
