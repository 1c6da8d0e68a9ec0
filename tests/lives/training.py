"""Training for some epochs, in every way."""

import contextlib
import functools

import numpy as np
import tensorflow as tf

from tests.lives import models, settings

keras = tf.keras
LOOPS = {  # arguments of `compile`
    "fit": {},
    "fit_jit": {"jit_compile": True},
    "fit_nojit": {"jit_compile": False},
    "fit_eager": {"run_eagerly": True},
    "batch": {"jit_compile": False},
    "own": {},
    "own_function": {},
    "own_xla": {},
    "minimize": {},
}
PLATEAU = 0.5
STRATEGIES = ("none", "default", "onedevice", "mirrored", "central", "multiworker")
_DEVICES = ["CPU:0", "CPU:1"]
_MISSING = 1  # the variable whose gradient is missing in every second batch


def is_fit(life):
    """Whether Keras' `fit` runs the steps."""
    return life.loop.startswith("fit")


def is_missing(life, variable, batch):
    """Whether a variable, by place, has no gradient in a batch of an epoch."""
    return life.missing != "none" and variable == _MISSING and batch % 2 == 1


@functools.cache
def strategy_of(name):
    """One object for each strategy of this process, `None` without one.

    ParameterServerStrategy is not among them: its servers have no way to end, and its steps
    are scheduled by a coordinator (tests/parameter_server.py).
    """
    if name == "none":
        return None
    return {
        "default": tf.distribute.get_strategy,
        "onedevice": lambda: tf.distribute.OneDeviceStrategy("CPU:0"),
        # Without collectives: those of all strategies of a process share one group key.
        "mirrored": lambda: tf.distribute.MirroredStrategy(
            _DEVICES, cross_device_ops=tf.distribute.ReductionToOneDevice()
        ),
        "central": lambda: tf.distribute.experimental.CentralStorageStrategy(
            _DEVICES, _DEVICES[0]
        ),
        # One worker with one device: TensorFlow reduces without a collective.
        "multiworker": tf.distribute.MultiWorkerMirroredStrategy,
    }[name]()


def has_replicas(life):
    """Whether the strategy of a life has two replicas."""
    return life.strategy in ("mirrored", "central")


def scope(life):
    """The scope in which the model and its optimizer are made."""
    strategy = strategy_of(life.strategy)
    return strategy.scope() if strategy else contextlib.nullcontext()


def compile_model(life, model, optimizer):
    """Compiles a model for the loop of its life."""
    with scope(life):
        model.compile(optimizer, "mse", **LOOPS[life.loop])


def scheduled(epoch, rate):
    """What LearningRateScheduler makes of the rate before an epoch."""
    return float(rate) * (0.5 if epoch % 2 else 1.5)


def callbacks(life):
    """New callbacks of a life."""
    made = {
        "none": [],
        "scheduler": lambda: keras.callbacks.LearningRateScheduler(scheduled),
        # The loss never improves by so much: the rate falls after each epoch but the first.
        "plateau": lambda: keras.callbacks.ReduceLROnPlateau(
            "loss", PLATEAU, patience=1, min_delta=1e6
        ),
        "swap": lambda: keras.callbacks.SwapEMAWeights(),
    }[life.callback]
    return [made()] if callable(made) else made


class Trainer:
    """Trains one model; made anew where the model is compiled anew, as loops are traced anew.

    Args:
      life: the life.
      model: the model, compiled.
      outputs: the size of its head.
    """

    def __init__(self, life, model, outputs=models.OUTPUTS):
        self._life, self._model, self._outputs = life, model, outputs
        self._x, self._y = models.data(life, outputs)
        self._strategy = strategy_of(life.strategy)
        if not is_fit(life) and not model.built:
            with scope(life):
                models.build(life, model)
        step = self._everywhere if self._strategy else self._step
        if life.loop in ("own_function", "own_xla"):
            made = {}

            def traced(x, y, batch):
                # A missing gradient is known when the function is traced.
                key = batch % 2 if life.missing != "none" else 0
                if key not in made:
                    made[key] = tf.function(
                        functools.partial(step, batch=key),
                        jit_compile=life.loop == "own_xla",
                        autograph=False,
                    )
                return made[key](x, y)

            self._own = traced
        else:
            self._own = step

    def train(self, begin, end, further=()):
        """Trains from one epoch to another.

        Args:
          begin: the first epoch.
          end: the first epoch that is left out.
          further: callbacks besides those of the life.
        """
        if begin == end:
            return
        life, model = self._life, self._model
        if is_fit(life):
            model.fit(
                self._x,
                self._y,
                batch_size=models.BATCH,
                initial_epoch=begin,
                epochs=end,
                shuffle=False,
                verbose=0,
                callbacks=[*callbacks(life), *further],
                validation_data=(self._x, self._y) if life.callback == "swap" else None,
            )
            return
        for _ in range(begin, end):
            for batch in range(life.steps):
                part = slice(batch * models.BATCH, (batch + 1) * models.BATCH)
                x, y = self._x[part], self._y[part]
                if life.loop == "batch":
                    model.train_on_batch(x, y)
                else:
                    self._own(*map(self._given, (x, y)), batch=batch)

    def _given(self, array):
        if not self._strategy:
            return tf.constant(array)
        shares = np.split(array, self._strategy.num_replicas_in_sync)
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(shares[context.replica_id_in_sync_group])
        )

    def _everywhere(self, x, y, batch):
        self._strategy.run(functools.partial(self._step, batch=batch), args=(x, y))

    def _loss(self, x, y):
        """The mean squared error over the batch of all replicas."""
        output = self._model(x, training=True)
        dtype = tf.float64 if output.dtype == tf.float64 else tf.float32
        errors = tf.square(tf.cast(y, dtype) - tf.cast(output, dtype))
        return tf.reduce_sum(errors) / (models.BATCH * self._outputs)

    def _step(self, x, y, batch):
        life, optimizer = self._life, self._model.optimizer
        variables = self._model.trainable_variables
        if life.loop == "minimize":
            optimizer.minimize(lambda: self._loss(x, y), variables)
            return
        with tf.GradientTape() as tape:
            loss = self._loss(x, y)
            scaled = loss
            if life.wrapper != "none" or "factor" in life.options:
                scale = getattr(optimizer, "get_scaled_loss", None) or optimizer.scale_loss
                scaled = scale(loss)
        gradients = tape.gradient(scaled, variables)
        if life.wrapper != "none" and not settings.IS_KERAS_3:
            gradients = optimizer.get_unscaled_gradients(gradients)
        pairs = [
            (None if is_missing(life, i, batch) else gradient, variable)
            for i, (gradient, variable) in enumerate(zip(gradients, variables))
        ]
        if life.missing == "unlisted":
            pairs = [pair for pair in pairs if pair[0] is not None]
        optimizer.apply_gradients(pairs)
