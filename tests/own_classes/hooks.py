"""Overridden methods between `apply` and `update_step`."""

import tensorflow as tf

from tests.own_classes.cases import case, descend


@case(learning_rate=0.1)
def AdaptiveClip(o):  # noqa: N802
    class AdaptiveClip(o.Adam):
        def _clip_gradients(self, grads):
            grads = super()._clip_gradients(grads)
            return [g / tf.maximum(1.0, 4.0 * tf.norm(g)) for g in grads]

    return AdaptiveClip


@case(learning_rate=0.1)
def Centered(o):  # noqa: N802
    class Centered(o.SGD):
        def _clip_gradients(self, grads):
            centered = [g - tf.reduce_mean(g) if len(g.shape) > 1 else g for g in grads]
            return super()._clip_gradients(centered)

        def update_step(self, gradient, variable, learning_rate=None):
            descend(self, gradient, variable, learning_rate, 0.5)

    return Centered


@case(kerases=(3,), learning_rate=0.1)
def HalfBeforeAll(o):  # noqa: N802
    class HalfBeforeAll(o.Nadam):
        def _backend_apply_gradients(self, grads, trainable_variables):
            super()._backend_apply_gradients([g * 0.5 for g in grads], trainable_variables)

    return HalfBeforeAll


@case(kerases=(3,), learning_rate=0.1)
def StepOfLists(o):  # noqa: N802
    class StepOfLists(o.Optimizer):
        """One `update_step` for the whole model."""

        def _backend_update_step(self, grads, trainable_variables, learning_rate):
            self.update_step(grads, trainable_variables, learning_rate)

        def update_step(self, gradients, variables, learning_rate):
            norm = tf.linalg.global_norm(gradients)
            for gradient, variable in zip(gradients, variables):
                self.assign_sub(variable, learning_rate * gradient / norm)

    return StepOfLists


@case(kerases=(3,), learning_rate=0.1)
def StepAfterSteps(o):  # noqa: N802
    class StepAfterSteps(o.SGD):
        """Something after all variables have moved."""

        def _backend_update_step(self, grads, trainable_variables, learning_rate):
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            for variable in trainable_variables:
                self.assign(variable, tf.clip_by_value(variable, -0.5, 0.5))

    return StepAfterSteps


@case(kerases=(3,), learning_rate=0.1)
def ZerosForNone(o):  # noqa: N802
    class ZerosForNone(o.Adam):
        def _filter_empty_gradients(self, grads, vars):
            return [tf.zeros(v.shape) if g is None else g for g, v in zip(grads, vars)], vars

    return ZerosForNone


@case(kerases=(3,), learning_rate=0.1)
def OwnSum(o):  # noqa: N802
    class OwnSum(o.Lion):
        def _all_reduce_sum_gradients(self, grads_and_vars):
            pairs = super()._all_reduce_sum_gradients(grads_and_vars)
            return [(g - 0.1, v) for g, v in pairs]

    return OwnSum


@case(kerases=(3,), learning_rate=0.1)
def OwnRate(o):  # noqa: N802
    class OwnRate(o.Adagrad):
        def _get_current_learning_rate(self):
            warm = tf.cast(self.iterations + 1, "float32") / 4.0
            return super()._get_current_learning_rate() * tf.minimum(warm, 1.0)

    return OwnRate


@case(learning_rate=0.1)
def RateProperty(o):  # noqa: N802
    class RateProperty(o.Adam):
        @property
        def learning_rate(self):
            return self._learning_rate * 0.5

        @learning_rate.setter
        def learning_rate(self, value):
            self._learning_rate.assign(value)

    return RateProperty


@case(learning_rate=0.1)
def OwnAverages(o):  # noqa: N802
    class OwnAverages(o.SGD):
        def _update_model_variables_moving_average(self, trainable_variables):
            if self.use_ema:
                for variable, average in zip(
                    trainable_variables, self._model_variables_moving_average
                ):
                    average.assign(average * 0.25 + variable * 0.75)

    return OwnAverages


@case(learning_rate=0.1)
def HalfOfAverages(o):  # noqa: N802
    class HalfOfAverages(o.SGD):
        def _overwrite_model_variables_with_average_value(self, trainable_variables):
            for variable, average in zip(
                trainable_variables, self._model_variables_moving_average
            ):
                variable.assign(0.5 * (variable + average))

    return HalfOfAverages


@case(kerases=(2,), learning_rate=0.1)
def OwnAggregation(o):  # noqa: N802
    class OwnAggregation(o.Adam):
        def aggregate_gradients(self, grads_and_vars):
            return [(g * 0.5, v) for g, v in super().aggregate_gradients(grads_and_vars)]

    return OwnAggregation


@case(kerases=(2,), learning_rate=0.1)
def InternalHalf(o):  # noqa: N802
    class InternalHalf(o.RMSprop):
        def _internal_apply_gradients(self, grads_and_vars):
            return super()._internal_apply_gradients([(g * 0.5, v) for g, v in grads_and_vars])

    return InternalHalf


@case(kerases=(2,), learning_rate=0.1)
def BeforeRows(o):  # noqa: N802
    class BeforeRows(o.Adagrad):
        def _deduplicate_sparse_grad(self, grads):
            return super()._deduplicate_sparse_grad([g * 0.5 for g in grads])

    return BeforeRows


@case(kerases=(2,), learning_rate=0.1)
def StepTwice(o):  # noqa: N802
    class StepTwice(o.SGD):
        def _update_step(self, gradient, variable):
            super()._update_step(gradient, variable)
            super()._update_step(0.5 * gradient, variable)

    return StepTwice
