"""The arguments of an optimizer as a configuration, with its exclusions from weight decay."""

from inspect import getattr_static
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import declarations, grouping, hyperparameters
from tf_keras_optim.engine.groups import ReadOnly
from tf_keras_optim.engine.methods.delegates import Delegates
from tf_keras_optim.engine.option_checks import OF_AVERAGES
from tf_keras_optim.engine.options import CommonOptions, Reducer
from tf_keras_optim.engine.own_names import Yielding
from tf_keras_optim.engine.patterns import problem_of
from tf_keras_optim.engine.state.paths import path_of
from tf_keras_optim.engine.tensorflow import distribution


class Configuration(Delegates):
    """The part of an optimizer that describes it, and makes one from a description."""

    # What is overridden for each Keras.

    @classmethod
    def _deserialize(
        cls, config: Any, custom_objects: Any, *, is_optimizer: bool = False
    ) -> Any:
        """Returns the schedule or callable, or the optimizer, that a config describes."""
        raise NotImplementedError

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Excludes variables from weight decay. Must be called before `build`.

        Args:
          var_list: variables.
          var_names: regular expressions, searched in each variable's path; or one such
            string.

        Raises:
          ValueError: the optimizer is built already, or a string is not a regular expression.
            `build` raises where a pattern or variable matches no variable of the optimizer.
        """
        names = [var_names] if isinstance(var_names, str) else list(var_names or ())
        problem = problem_of(names)
        if problem:
            raise ValueError(
                f"{self.tko.title}: `exclude_from_weight_decay` takes regular expressions, "
                f"searched in a variable's path. Received: var_names={var_names!r} ({problem})."
            )
        if var_list is None:
            variables = []
        else:
            single = isinstance(var_list, tf.Variable) or hasattr(var_list, "path")
            variables = [var_list] if single else list(var_list)
        natives = [
            distribution.container(self.tko.keras.unwrap(variable)) for variable in variables
        ]
        pairs = list(zip(natives, map(path_of, variables)))
        if self.built and self.tko.builder.exclusions.are(pairs, names):
            return  # as each replica says it, of which the first has taken a step by then
        if self.built:
            raise ValueError(
                f"{self.tko.title} is built already, so `exclude_from_weight_decay` would "
                "have no effect. Call it right after creating the optimizer, before the "
                "first step and before `build`."
            )
        self.tko.builder.exclusions.set(pairs, names)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments by name; `from_config` makes an equal optimizer.

        Options that Keras' optimizers lack are left out where they have their default. A class
        whose `__init__` takes only Keras' arguments can therefore be made from the result.
        """
        config: dict[str, Any] = {"name": self.name}
        source = self.tko.store.rate_source
        if self.tko.store.rate is None:
            config["learning_rate"] = self.tko.keras.serialize(source)
        else:
            config["learning_rate"] = float(self.tko.store.rate.numpy())
        factor = self.tko.store.multiplier
        if factor is not None and float(factor.numpy()) != 1.0:
            config["learning_rate_multiplier"] = float(factor.numpy())
        common = declarations.collected(CommonOptions)
        options, parameters = self.tko.context.options, declarations.parameters_of(type(self))
        for name, value in declarations.values_of(options, parameters).items():
            if name in common and name not in self.tko.keras.known_arguments:
                default = parameters[name].default
                if type(value) is type(default) and value == default:
                    continue
            if isinstance(value, ReadOnly):
                config[name] = grouping.described(value, self.tko.keras.serialize)
                continue
            needs_keras = self.tko.keras.is_schedule(value) or callable(value)
            plain = hyperparameters.plain_copy(value)
            config[name] = self.tko.keras.serialize(value) if needs_keras else plain
        base = self.tko.rate.base
        if options.groups and base not in (None, config["learning_rate"]):
            config[grouping.BASE] = base
        if self.tko.builder.exclusions:
            paths = [path_of(entry.public) for entry in self.tko.store.tracked]
            config["exclude_from_weight_decay"] = self.tko.builder.exclusions.get_config(paths)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Makes an optimizer from what `get_config` returned."""
        config = dict(config)
        if config.get("is_legacy_optimizer") is False:  # as Keras 2 writes it
            del config["is_legacy_optimizer"]
        own = cls._own_names.unless_given
        for name, value in config.items():
            parameter = None if name in own else cls._parameters.get(name)
            from_keras = isinstance(parameter, (hyperparameters.LearningRate, Reducer)) or (
                parameter is not None and parameter.schedulable
            )
            if from_keras and isinstance(value, dict):
                config[name] = cls._deserialize(value, custom_objects)
        if config.get("groups"):
            config["groups"] = grouping.with_objects(
                config["groups"],
                lambda value: cls._deserialize(value, custom_objects),
                lambda value: cls._deserialize(value, custom_objects, is_optimizer=True),
            )
        base = config.pop(grouping.BASE, None)
        excluded = config.pop("exclude_from_weight_decay", None)
        later = {}
        factor = "learning_rate_multiplier"
        if factor in config and not isinstance(getattr_static(cls, factor), Yielding):
            later["learning_rate_multiplier"] = config.pop("learning_rate_multiplier")
        if not config.get("use_ema"):  # kept, although they have no effect now
            later |= {name: config.pop(name) for name in OF_AVERAGES if name in config}
        if not config.get("lookahead_steps") and "lookahead_share" in config:
            later["lookahead_share"] = config.pop("lookahead_share")
        now = config.get("learning_rate")
        if base is not None:
            config["learning_rate"] = base
        optimizer = cls(**config)
        if base is not None:
            optimizer.learning_rate = now
        for name, value in later.items():
            setattr(optimizer, name, value)
        optimizer.tko.builder.note_configuration()
        optimizer.tko.builder.exclusions.load(excluded)
        return optimizer
