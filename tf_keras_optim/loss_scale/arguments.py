"""The arguments of LossScaleOptimizer, and its documentation."""

from collections.abc import Sequence
from typing import Any

from tf_keras_optim.engine import declarations, documentation
from tf_keras_optim.engine.declarations import Declared
from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.options import CommonOptions

_TEXT = """Scales the loss, so that small float16 gradients do not become zero.

The scale grows after many good steps. When a gradient overflows, the step is skipped
and the scale backs off. Gradients are summed over the replicas and unscaled before they
are tested, so all replicas agree. A skipped step changes only the scale and the counters:
weights, slots, averages and accumulators stay, and `iterations` does not count the step.

The class is a subclass of the running Keras' own LossScaleOptimizer, so `compile` under
the policy "mixed_float16" accepts it as it is. After `tko.install()`, `compile` also wraps
optimizers of this package in this class by itself.

{contract}

Assigning an attribute that is not listed below (`weight_decay`,
`learning_rate_multiplier`, ...) sets it on the inner optimizer.

{{arguments}}

State: the scale and three counters, beside the state of the inner optimizer.

Raises:
  TypeError: `inner_optimizer` is not an optimizer of this package, or is wrapped already.
  ValueError: an argument is out of range, or the inner optimizer has
    `skip_nonfinite`.

Example:
  >>> weight = tf.Variable(1.0)
  >>> optimizer = LossScaleOptimizer(SGD(0.5), initial_scale=8.0)
  >>> for slope in (1.0, float("inf"), 1.0):
  ...     _ = optimizer.minimize(lambda: slope * weight, [weight])
  >>> float(weight.numpy()), float(optimizer.loss_scale), int(optimizer.skipped_steps)
  (0.0, 4.0, 1)

Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018.
"""


class Arguments(Declared):
    """The declarations, in the order of the arguments after `inner_optimizer`."""

    initial_scale = Hyperparameter(2.0**15, above=0.0, doc="the scale before the first step")
    dynamic_growth_steps = Hyperparameter(
        2000, minimum=1, doc="number of good steps in a row after which the scale grows."
    )
    growth_factor = Hyperparameter(
        2.0, minimum=1.0, keyword_only=True, doc="factor by which the scale grows"
    )
    backoff_factor = Hyperparameter(
        0.5,
        above=0.0,
        below=1.0,
        keyword_only=True,
        doc="factor by which the scale is multiplied after a skipped step",
    )
    min_scale = Hyperparameter(
        1.0, above=0.0, keyword_only=True, doc="lower bound of the scale."
    )
    max_scale = Hyperparameter(
        2.0**24, above=0.0, keyword_only=True, doc="upper bound of the scale."
    )
    hysteresis = Hyperparameter(
        1,
        minimum=1,
        keyword_only=True,
        doc="number of skipped steps in a row after which the scale backs off.",
    )
    max_consecutive_skips = CommonOptions.max_consecutive_skips
    dynamic = Hyperparameter(
        True, keyword_only=True, doc="False keeps the scale constant; steps are still skipped"
    )


# What older Kerases wrote into the wrapper's config, where it never had an effect.
_WITHOUT_EFFECT = {
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}
_NONE_IS_DEFAULT = ("initial_scale", "dynamic_growth_steps")
OWNER = "LossScaleOptimizer"


def checked(args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns every argument after `inner_optimizer`, checked, and `name`.

    Raises:
      TypeError: an argument is unknown.
      ValueError: a value is of another kind, out of range, or excluded by another one; or
        an argument belongs to the inner optimizer.
    """
    # Keras 2 writes None for its defaults.
    kwargs = {k: v for k, v in kwargs.items() if v is not None or k not in _NONE_IS_DEFAULT}
    for key in kwargs.keys() & _WITHOUT_EFFECT.keys():
        value = kwargs.pop(key)
        if value != _WITHOUT_EFFECT[key]:
            raise ValueError(
                f"{OWNER}: argument `{key}`={value!r} belongs to the inner optimizer. Give "
                f"it to that one: {OWNER}(Adam({key}={value!r}))."
            )
    values = declarations.bound(Arguments, args, kwargs, OWNER)
    name = values.pop("name")
    values = declarations.checked(Arguments, values, OWNER)
    check_bounds(values)
    return values | {"name": name}


def check_bounds(values: dict[str, Any]) -> None:
    """Refuses an initial scale that is not within its bounds.

    Raises:
      ValueError: it is not.
    """
    scales = [values[key] for key in ("min_scale", "initial_scale", "max_scale")]
    if scales != sorted(scales):
        raise ValueError(
            f"{OWNER}: arguments must satisfy min_scale <= initial_scale <= max_scale. "
            f"Received: min_scale={scales[0]}, initial_scale={scales[1]}, "
            f"max_scale={scales[2]}."
        )


def documented(contract: str) -> str:
    """Returns the docstring of the class.

    Args:
      contract: what holds under one generation of Keras.
    """
    described = {
        "inner_optimizer": "an optimizer of this package.",
        **documentation.descriptions(declarations.parameters_of(Arguments)),
        "name": "name of the optimizer. Keyword-only.",
    }
    return documentation.filled(_TEXT.replace("{contract}", contract), described)
