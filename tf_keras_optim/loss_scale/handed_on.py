"""The names that a LossScaleOptimizer forwards to the optimizer inside."""

from typing import Any

from tf_keras_optim.engine import declarations
from tf_keras_optim.engine.options import CommonOptions
from tf_keras_optim.loss_scale.arguments import Arguments

# Beside the options that all optimizers share.
_PUBLIC = (
    "current_learning_rate",
    "learning_rate_multiplier",
    "jit_compile_used",
    "trace_count",
    "explain",
    "state_dict",
    "load_state_dict",
    "reset_state",
    "evaluation_weights",
    "use_evaluation_weights",
    "use_training_weights",
    "has_evaluation_weights",
    "statistics",
    "add_variable",
    "add_variable_from_reference",
    "add_optimizer_variables",
    "apply",
    "assign",
    "assign_add",
    "assign_sub",
    # What the algorithm says of itself.
    "slots",
    "slots_for",
    "slots_of",
    "slot_meanings",
    "step_slots",
    "options_for",
    "traits_of",
    "elementwise",
    "corrected",
    "counts_updates",
    "decays_in_update",
    "draws_noise",
    "needs_master_weights",
    "fusible",
    "prepare",
    "measure",
    "conclude",
    "refresh",
    "refresh_every",
    "refresh_first",
    "refresh_spread",
    "evaluated",
    "trained",
    "update",
    "update_in_place",
)
# What Keras, its callbacks and its own wrappers ask an optimizer for.
_OF_KERAS = (
    "_iterations",
    "_learning_rate",
    "_variables",
    "_trainable_variables",
    "_built",
    "_mesh",
    "_run_with_dtensor",
    "_distribution_strategy",
    "_get_variable_index",
    "_model_variables_moving_average",
    "_accumulated_gradients",
)


def names() -> tuple[str, ...]:
    """Returns the names of all members that are those of the optimizer inside."""
    own = declarations.collected(Arguments)
    options = [name for name in declarations.collected(CommonOptions) if name not in own]
    return (*options, *_PUBLIC, *_OF_KERAS)


def forwarded(name: str) -> property:
    """Returns a property that is the one of the optimizer inside."""

    def read(self: Any) -> Any:
        return getattr(self.inner_optimizer, name)

    def write(self: Any, value: Any) -> None:
        setattr(self.inner_optimizer, name, value)

    return property(read, write, doc=f"`{name}` of the inner optimizer.")


def hand_on(wrapper: type, always: type) -> type:
    """Gives a wrapper's class a property for each of these names.

    Args:
      wrapper: the class. What it defines itself stays; what Keras' own wrapper, from which
        it inherits, defines makes way.
      always: a class above it; what that one and those above it define stays too.
    """
    for name in names():
        if not any(name in vars(cls) for cls in (wrapper, *always.__mro__)):
            setattr(wrapper, name, forwarded(name))
    return wrapper
