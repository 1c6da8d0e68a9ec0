"""Tiny models of every kind, their data, and what happens to them between two trainings."""

import contextlib
import dataclasses

import numpy as np
import tensorflow as tf

keras = tf.keras
BATCH = 4
OUTPUTS = 2
OTHER_OUTPUTS = 3  # of another head
# Events without `compile`, before saving.
UNCOMPILED = ("freeze_uncompiled", "thaw_uncompiled", "freeze_model_uncompiled")
_ROWS = 6  # of an embedding
_FACTORS = 2  # of LoRA


def _weights(seed, index):
    return {
        "kernel_initializer": keras.initializers.GlorotUniform(seed=seed * 100 + index),
        "bias_initializer": keras.initializers.RandomNormal(
            0.0, 0.1, seed=seed * 100 + 50 + index
        ),
    }


def _dense(seed, index, units, activation="tanh"):
    return keras.layers.Dense(units, activation=activation, **_weights(seed, index))


@keras.utils.register_keras_serializable(package="lives")
class Subclassed(keras.Model):
    """Two layers, written as a class."""

    def __init__(self, seed=0, units=OUTPUTS, **kwargs):
        super().__init__(**kwargs)
        self.arguments = {"seed": seed, "units": units}
        self.hidden = _dense(seed, 0, 4)
        self.head = _dense(seed, 1, units, None)

    def call(self, x):
        return self.head(self.hidden(x))

    def get_config(self):
        return super().get_config() | dict(self.arguments)


@keras.utils.register_keras_serializable(package="lives")
class Twins(keras.layers.Layer):
    """A layer whose two weights have one name."""

    def __init__(self, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, shape):
        # Not in a list, which Keras 3 leaves out of TensorFlow's checkpoints.
        self.first, self.second = (self._one(int(shape[-1]), i) for i in range(2))

    def _one(self, rows, index):
        initializer = keras.initializers.GlorotUniform(seed=self.seed * 100 + index)
        return self.add_weight(name="w", shape=(rows, 3), initializer=initializer)

    def call(self, x):
        products = [tf.matmul(x, tf.convert_to_tensor(w)) for w in (self.first, self.second)]
        return tf.tanh(tf.concat(products, axis=-1))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 6)

    def get_config(self):
        return super().get_config() | {"seed": self.seed}


@dataclasses.dataclass(frozen=True)
class Size:
    """The size of a model, and the seed of its weights."""

    seed: int
    features: int = 3
    width: int = 4
    outputs: int = OUTPUTS


def _hidden(size, index=0, units=None):
    return _dense(size.seed, index, units or size.width)


def _head(size, index=1):
    return _dense(size.seed, index, size.outputs, None)


def _input(size):
    return keras.layers.Input((size.features,))


def _functional(size):
    x = _input(size)
    return keras.Model(x, _head(size)(_hidden(size)(x)))


def _sequential(size):
    return keras.Sequential([_input(size), _hidden(size), _head(size)])


def _unbuilt(size):
    return keras.Sequential([_hidden(size), _head(size)])


def _subclass(size):
    return Subclassed(size.seed, size.outputs)


def _nested(size):
    inner = keras.Sequential([_input(size), _hidden(size), _hidden(size, 1, 3)])
    x = _input(size)
    return keras.Model(x, _head(size, 2)(inner(x)))


def _shared(size):
    x, twice = _input(size), _hidden(size, 0, size.features)
    return keras.Model(x, _head(size)(twice(twice(x))))


def _equal(size):
    alike = [_hidden(size, index, size.features) for index in range(3)]
    return keras.Sequential([_input(size), *alike, _head(size, 3)])


def _embedding(size):
    table = keras.layers.Embedding(
        _ROWS,
        3,
        embeddings_initializer=keras.initializers.RandomNormal(0.0, 0.5, seed=size.seed),
    )
    rest = [keras.layers.Flatten(), _head(size)]
    return keras.Sequential([keras.layers.Input((2,)), table, *rest])


def _twins(size):
    return keras.Sequential([_input(size), Twins(size.seed), _head(size, 3)])


MODELS = {
    "functional": _functional,
    "sequential": _sequential,
    "unbuilt": _unbuilt,
    "subclass": _subclass,
    "nested": _nested,
    "shared": _shared,
    "embedding": _embedding,
    "equal": _equal,
    "twins": _twins,
}


def features(life):
    """Large enough that a kernel is kept in 8 bits, where the life has that."""
    return 64 if "slots_int8" in life.options else 3


def make_model(life, seed, outputs=OUTPUTS):
    """A new model, as it stands before the first part."""
    keras.utils.set_random_seed(seed)
    wide = features(life)
    size = Size(seed, wide, wide if wide > 4 else 4, outputs)
    model = MODELS[life.model](size)
    if life.event in ("unfreeze", "thaw_uncompiled"):
        first_layer(model).trainable = False
    return model


def data(life, outputs=OUTPUTS):
    """Inputs and targets of one epoch."""
    generator = np.random.default_rng(life.seed)
    samples = life.steps * BATCH
    if life.model == "embedding":
        # Some rows of the table are never named, some twice.
        x = generator.integers(0, _ROWS - 2, (samples, 2)).astype("int32")
    else:
        x = generator.normal(size=(samples, features(life))).astype("float32")
    y = generator.normal(size=(samples, outputs)).astype("float32")
    if life.bad:
        y[BATCH + 1, 0] = np.nan  # the second batch
    return x, y


def build(life, model):
    """Makes the variables of a model that has none yet."""
    model(tf.constant(data(life)[0][:BATCH]))


def first_layer(model):
    """The first layer that has weights of its own, inside a nested model too."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            return first_layer(layer)
        if isinstance(layer, (keras.layers.Dense, keras.layers.Embedding, Twins)):
            return layer
    raise AssertionError("no layer has weights")


EVENTS = {
    "none": "nothing",
    "recompile": "compile with the same optimizer, as all of the following",
    "unfreeze": "a layer that was frozen from the start becomes trainable",
    "freeze": "a layer becomes frozen",
    "lora": "LoRA on a layer",
    "weights": "other weights are set",
    "accumulation": "another number of accumulated steps, refused in an open window",
    "accumulation_loaded": "what loads has another number of accumulated steps",
    "freeze_uncompiled": "a layer becomes frozen just before saving, without compile",
    "thaw_uncompiled": "a layer becomes trainable just before saving, without compile",
    "freeze_model_uncompiled": "the model becomes frozen just before saving, without compile",
    "head": "what loads has another head, and loads what fits",
}


def happen(life, model):
    """What happens to the model between the first part and the second; `compile` follows."""
    generator = np.random.default_rng(life.seed + 1)
    if life.event == "unfreeze":
        first_layer(model).trainable = True
    elif life.event == "freeze":
        first_layer(model).trainable = False
    elif life.event == "weights":
        shapes = [weight.shape for weight in model.get_weights()]
        model.set_weights([generator.normal(0.0, 0.5, shape) for shape in shapes])
    elif life.event == "lora":
        layer = first_layer(model)
        layer.enable_lora(_FACTORS)
        for variable in layer.trainable_variables:
            if "lora" in variable.path:
                variable.assign(generator.normal(0.0, 0.3, variable.shape))


def happen_before_saving(life, model):
    """What happens just before saving, without `compile`."""
    if life.event == "freeze_model_uncompiled":
        model.trainable = False
    elif life.event in UNCOMPILED:
        first_layer(model).trainable = life.event == "thaw_uncompiled"


def _thaw(layer):
    """Makes a layer trainable, and those in it: Keras 3 loads a model apart from its layers."""
    layer.trainable = True
    for inner in getattr(layer, "layers", ()):
        _thaw(inner)


def happen_after_saving(life, model):
    """What happens after saving, and after loading, before `compile`."""
    if life.event == "freeze_model_uncompiled":
        _thaw(model)


@contextlib.contextmanager
def policy(name):
    """Keras under a dtype policy; float64 is the default dtype of everything then."""
    before = keras.mixed_precision.global_policy()
    floatx = keras.backend.floatx()
    if name == "float64":
        keras.backend.set_floatx("float64")
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.backend.set_floatx(floatx)
        keras.mixed_precision.set_global_policy(before)
