"""As tf_keras documents it."""

import tensorflow as tf

from tests.own_classes.cases import case


@case(kerases=(2,), learning_rate=0.1)
def AsDocumented(o):  # noqa: N802
    class AsDocumented(o.Optimizer):
        def __init__(self, learning_rate=0.1, momentum=0.5, name="AsDocumented", **kwargs):
            super().__init__(name, **kwargs)
            self._learning_rate = self._build_learning_rate(learning_rate)
            self.momentum = momentum

        def build(self, var_list):
            super().build(var_list)
            if hasattr(self, "_built") and self._built:
                return
            self.momentums = []
            for var in var_list:
                self.momentums.append(
                    self.add_variable_from_reference(model_variable=var, variable_name="m")
                )
            self._built = True

        def update_step(self, gradient, variable):
            m = self.momentums[self._index_dict[self._var_key(variable)]]
            m.assign(m * self.momentum + gradient)
            variable.assign_sub(tf.cast(self.learning_rate, variable.dtype) * m)

        def get_config(self):
            config = super().get_config()
            config.update(
                {
                    "learning_rate": self._serialize_hyperparameter(self._learning_rate),
                    "momentum": self.momentum,
                }
            )
            return config

    return AsDocumented


@case(kerases=(2,), learning_rate=0.1)
def ShapesAndValues(o):  # noqa: N802
    class ShapesAndValues(o.Optimizer):
        def __init__(self, learning_rate=0.1, name="ShapesAndValues", **kwargs):
            super().__init__(name=name, **kwargs)
            self._learning_rate = self._build_learning_rate(learning_rate)

        def build(self, var_list):
            super().build(var_list)
            if getattr(self, "_built", False):
                return
            self.starts = [
                self.add_variable_from_reference(var, "start", initial_value=var)
                for var in var_list
            ]
            self.sums = [
                self.add_variable_from_reference(var, "sum", shape=[]) for var in var_list
            ]
            self.count = self.add_variable([], "float32", "ones", "count")
            self._built = True

        def update_step(self, gradient, variable):
            place = self._index_dict[self._var_key(variable)]
            self.sums[place].assign_add(tf.reduce_sum(tf.abs(gradient)))
            self.count.assign_add(1.0)
            pull = 0.1 * (variable - self.starts[place])
            rate = tf.cast(self.learning_rate, variable.dtype)
            variable.assign_sub(rate * (gradient / self.sums[place] + pull) / self.count)

        def get_config(self):
            config = super().get_config()
            rate = self._serialize_hyperparameter(self._learning_rate)
            return config | {"learning_rate": rate}

    return ShapesAndValues


@case(kerases=(2,), learning_rate=0.1)
def CountsAnew(o):  # noqa: N802
    class CountsAnew(o.Optimizer):
        """Has a counter of its own in the place of the base's."""

        def __init__(self, learning_rate=0.1, name="CountsAnew", **kwargs):
            super().__init__(name, **kwargs)
            self._learning_rate = self._build_learning_rate(learning_rate)
            self._iterations = tf.Variable(10, dtype=tf.int64, trainable=False)

        def build(self, var_list):
            super().build(var_list)
            self._built = True

        def update_step(self, gradient, variable):
            step = tf.cast(self.iterations + 1, variable.dtype)
            rate = tf.cast(self.learning_rate, variable.dtype)
            variable.assign_sub(rate / tf.sqrt(step) * gradient)

        def get_config(self):
            config = super().get_config()
            rate = self._serialize_hyperparameter(self._learning_rate)
            return config | {"learning_rate": rate}

    return CountsAnew
