"""Optimizers of other libraries: the next five updates are those the source would make."""

import json
import pathlib

import h5py
import harness
import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras_2
import torch_oracles

import tf_keras_optim as tko
from tests.support import state

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
FIRST, NEXT = 6, 5
BOUND = 1e-6
VALUES = {"kernel": (3, 2), "bias": (2,), "conv": (2, 2, 2)}
RUNNING = keras_3 if harness.IS_KERAS_3 else keras_2
legacy = keras_2.optimizers.legacy


def start_values(names=("kernel", "bias")):
    generator = np.random.default_rng(3)
    return [generator.normal(size=VALUES[name]).astype("f") for name in names]


def gradients(names=("kernel", "bias"), steps=FIRST + NEXT):
    generator = np.random.default_rng(4)
    return [
        [generator.normal(size=VALUES[name]).astype("f") for name in names]
        for _ in range(steps)
    ]


def variables_for(keras, names=("kernel", "bias")):
    """Model variables as a generation of Keras has them."""
    pairs = zip(start_values(names), names)
    if keras is keras_3:
        return [keras_3.Variable(value, name=name) for value, name in pairs]
    return [tf.Variable(value, name=name) for value, name in pairs]


def apply(optimizer, variables, batches):
    """Applies gradients; returns the weights after each step."""
    seen = []
    for batch in batches:
        optimizer.apply_gradients(list(zip(map(tf.constant, batch), variables)))
        seen.append([np.array(variable.numpy()) for variable in variables])
    return seen


def assert_same_steps(ours, source, variables, names=("kernel", "bias")):
    """Both make the same next updates; returns the weights before and after them."""
    batches = gradients(names)[FIRST:]
    before = [np.array(variable.numpy()) for variable in variables]
    expected = apply(source, variables, batches)
    set_values(variables, before)
    found = apply(ours, taken(variables), batches)
    for weights, wanted in zip(found, expected):
        for value, other in zip(weights, wanted):
            np.testing.assert_allclose(value, other, rtol=0, atol=BOUND)
    return before, expected[-1]


def assert_goes_on(ours, source, variables, names=("kernel", "bias"), moves=True):
    """Both make the same next updates, and the state matters for them."""
    before, after = assert_same_steps(ours, source, variables, names)
    if moves:  # without the state it would be something else
        set_values(variables, before)
        fresh = type(ours).from_config(ours.get_config())
        others = apply(fresh, taken(variables), gradients(names)[FIRST:])[-1]
        distance = max(np.abs(a - b).max() for a, b in zip(others, after))
        assert distance > 20 * BOUND


def set_values(variables, values):
    for variable, value in zip(variables, values):
        variable.assign(value)


def taken(variables):
    """Variables in a form that the running Keras' optimizers take."""
    return [v if is_taken(v) else v.value for v in variables]


def is_taken(variable):
    return harness.IS_KERAS_3 or isinstance(variable, tf.Variable)


def trained(keras, optimizer, names=("kernel", "bias")):
    variables = variables_for(keras, names)
    apply(optimizer, variables, gradients(names)[:FIRST])
    return variables


CASES = [
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"use_ema": True, "ema_overwrite_frequency": 3, "clipnorm": 0.5}),
    ("AdamW", {"weight_decay": 0.1}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adagrad", {"learning_rate": 0.1}),
    ("Adamax", {}),
    ("Adafactor", {"learning_rate": 0.1, "relative_step": False}),
    ("Nadam", {}),
    ("Ftrl", {"learning_rate": 0.1, "l1_regularization_strength": 0.01, "beta": 0.1}),
    ("Lion", {}),
    ("Lamb", {"weight_decay": 0.1}),
]
IN_KERAS = {r.keras.name: dict(r.example) for r in harness.RECORDS if r.keras.name}
CASES += [(n, a) for n, a in IN_KERAS.items() if n not in {name for name, _ in CASES}]
STATELESS = ("SGD", {})


def sample(cases, whole):
    """All cases, or every third one: the other generation's process takes all of them."""
    return cases if whole else cases[::3]


LIVE_CASES = [
    pytest.param(keras, case, id=f"{keras.__name__}-{case}")
    for keras in (keras_3, keras_2)
    for case in sample(CASES, whole=keras is RUNNING)
]


@pytest.mark.parametrize(("keras", "case"), LIVE_CASES)
def test_live_optimizers_of_both_generations(keras, case):
    name, arguments = case
    cls = getattr(keras.optimizers, name, None)
    if cls is None:
        assert keras is keras_2
        assert name in ("Lamb", "Muon", "ScheduleFreeAdamW")
        pytest.skip(f"tf_keras has no {name}")
    source = cls(**{"learning_rate": 0.01} | arguments)
    # tf_keras' Adafactor cannot be built for three axes.
    names = ("kernel", "bias") if keras is keras_2 else ("kernel", "bias", "conv")
    variables = trained(keras, source, names)
    known = None if keras is keras_3 else variables
    ours = tko.convert(source, known, jit_compile=False)
    assert type(ours).__name__ == name
    assert int(ours.iterations.numpy()) == FIRST
    assert_goes_on(ours, source, variables, names, moves=case != STATELESS)


def test_with_the_default_compilation():
    source = RUNNING.optimizers.Adam(0.01)
    variables = trained(RUNNING, source)
    assert_goes_on(tko.convert(source, variables), source, variables)


LEGACY_CASES = [
    ("SGD", {"momentum": 0.9, "decay": 0.1}),
    ("SGD", {}),
    ("RMSprop", {"epsilon": 1e-2}),
    ("RMSprop", {"momentum": 0.5, "epsilon": 1e-2}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"clipnorm": 0.5, "decay": 0.1}),
    ("Adagrad", {"learning_rate": 0.1, "epsilon": 1e-2}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Ftrl", {"learning_rate": 0.1, "beta": 0.1, "l2_shrinkage_regularization_strength": 0.1}),
]


@pytest.mark.parametrize("case", sample(LEGACY_CASES, whole=RUNNING is keras_2), ids=str)
def test_legacy_optimizers(case):
    name, arguments = case
    source = getattr(legacy, name)(**{"learning_rate": 0.01} | arguments)
    variables = trained(keras_2, source)
    ours = tko.convert(source, variables, jit_compile=False)
    assert_goes_on(ours, source, variables, moves=case != STATELESS)


def test_all_legacy_optimizers_are_among_the_cases():
    known = {n for n in dir(legacy) if n[0] != "_"} - {"Optimizer"}
    assert {name for name, _ in LEGACY_CASES} == known


def test_legacy_variables_are_found_whatever_their_order():
    source = legacy.Adam(0.01)
    variables = trained(keras_2, source)
    ours = tko.convert(source, variables[::-1], jit_compile=False)
    assert [len(report.shape) for report in state.reports(ours)] == [1, 2]
    assert_goes_on(ours, source, variables)


def decays(optimizer):
    """Which variables decay."""
    return [report.decays for report in state.reports(optimizer)]


class LAMB(legacy.Optimizer):
    """What TensorFlow Addons' LAMB computes."""

    def __init__(self, rate, decay, exclude):
        super().__init__("LAMB")
        self._set_hyper("learning_rate", rate)
        self.rate, self.decay_rate, self.exclude = rate, decay, exclude

    def _create_slots(self, var_list):
        for slot in ("m", "v"):
            for variable in var_list:
                self.add_slot(variable, slot)

    def _resource_apply_dense(self, grad, var, apply_state=None):
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        t = tf.cast(self.iterations + 1, tf.float32)
        m.assign(0.9 * m + 0.1 * grad)
        v.assign(0.99 * v + 0.01 * grad**2)
        update = m / (1 - 0.9**t) / (tf.sqrt(v / (1 - 0.99**t)) + 1e-6)
        excluded = any(part in var.name for part in self.exclude)
        ratio = 1.0
        if not excluded:
            update += self.decay_rate * var
            ratio = tf.norm(var) / tf.norm(update)
        return var.assign_sub(self.rate * ratio * update)

    def get_config(self):
        return super().get_config() | {
            "learning_rate": self.rate,
            "weight_decay": self.decay_rate,
            "decay": 0.0,
            "beta_1": 0.9,
            "beta_2": 0.99,
            "epsilon": 1e-6,
            "exclude_from_weight_decay": self.exclude,
            "exclude_from_layer_adaptation": None,
        }


class LazyAdam(legacy.Adam):
    """What TensorFlow Addons' LazyAdam computes for dense gradients."""


class AdamW(legacy.Adam):
    """What TensorFlow Addons' AdamW computes: the decay does not follow the rate."""

    def _resource_apply_dense(self, grad, var, apply_state=None):
        with tf.control_dependencies([var.assign_sub(0.002 * var)]):
            return super()._resource_apply_dense(grad, var, apply_state)

    def get_config(self):
        return super().get_config() | {"weight_decay": 0.002}


@pytest.mark.parametrize("name", ["LAMB", "LazyAdam", "AdamW"])
def test_optimizers_of_addons(name):
    source = {
        "LAMB": lambda: LAMB(0.01, 0.1, ["bias"]),
        "LazyAdam": lambda: LazyAdam(0.01),
        "AdamW": lambda: AdamW(0.01),
    }[name]()
    variables = trained(keras_2, source)
    ours = tko.convert(source, variables, jit_compile=False)
    assert ours.sparse == ("lazy" if name == "LazyAdam" else "exact")
    assert_same_steps(ours, source, variables)


@pytest.mark.parametrize("keras", [keras_3, keras_2], ids=["keras", "tf_keras"])
def test_exclusions_and_schedules_come_along(keras):
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 20)
    source = keras.optimizers.AdamW(schedule, weight_decay=0.5)
    source.exclude_from_weight_decay(var_names=["bias"])
    variables = trained(keras, source)
    ours = tko.convert(source, variables if keras is keras_2 else None, jit_compile=False)
    rate = ours.get_config()["learning_rate"]
    assert (rate["class_name"], rate["config"]["decay_steps"]) == ("CosineDecay", 20)
    assert decays(ours) == [True, False]
    assert_same_steps(ours, source, variables)


def test_an_accumulation_goes_on_where_it_was():
    source = keras_3.optimizers.SGD(0.01, momentum=0.9, gradient_accumulation_steps=4)
    variables = trained(keras_3, source)  # two calls into the second update
    ours = tko.convert(source, jit_compile=False)
    assert_same_steps(ours, source, variables)


@pytest.mark.parametrize("keras", [keras_3, keras_2], ids=["keras", "tf_keras"])
def test_without_state_there_is_only_the_configuration(keras):
    source = keras.optimizers.Adam(0.25, beta_1=0.5, clipnorm=2.0, weight_decay=0.125)
    ours = tko.convert(source, sparse="lazy")
    assert not ours.built
    found = ours.get_config()
    expected = {"learning_rate": 0.25, "beta_1": 0.5, "clipnorm": 2.0, "weight_decay": 0.125}
    assert {key: found[key] for key in expected} == expected
    assert found["sparse"] == "lazy"


@pytest.mark.parametrize("keras", [keras_3, keras_2], ids=["keras", "tf_keras"])
def test_a_scalar_slot_is_not_taken_for_the_learning_rate(keras):
    values = {"name": "scale", "dtype": "float32"}
    make = keras_3.Variable if keras is keras_3 else tf.Variable
    variable = make(1.0, **values)
    source = keras.optimizers.SGD(0.5)
    source.apply_gradients([(tf.constant(1.0), variable)])
    ours = tko.convert(source, [variable] if keras is keras_2 else None)
    assert float(ours.learning_rate.numpy()) == 0.5


def test_a_file_that_does_not_say_which_keras_wrote_it_may_be_ambiguous(tmp_path):
    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        file["optimizer/vars/0"], file["optimizer/vars/1"] = np.int64(1), np.float32(0.5)
    with pytest.raises(ValueError, match="nothing says which"):
        tko.convert(
            tmp_path / "x.weights.h5", [tf.Variable(1.0, name="w")], optimizer=tko.SGD()
        )


@pytest.mark.parametrize("keras", [keras_3, keras_2], ids=["keras", "tf_keras"])
def test_a_given_learning_rate_counts_more(keras):
    source = keras.optimizers.Adam(0.5)
    variables = trained(keras, source)
    known = None if keras is keras_3 else variables
    assert tko.convert(source, known, learning_rate=0.25).current_learning_rate == 0.25
    schedule = RUNNING.optimizers.schedules.PiecewiseConstantDecay([3], [1.0, 0.125])
    ours = tko.convert(source, known, learning_rate=schedule)
    assert ours.current_learning_rate == 0.125


@pytest.mark.parametrize("keras", [keras_3, keras_2], ids=["keras", "tf_keras"])
def test_the_loss_scale_comes_along(keras):
    inner = keras.optimizers.Adam(0.01)
    wrapper = keras_3.optimizers if keras is keras_3 else keras_2.mixed_precision
    source = wrapper.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=4)
    variables = trained(keras, source)
    known = None if keras is keras_3 else variables
    ours = tko.convert(source, known, jit_compile=False)
    assert isinstance(ours, tko.LossScaleOptimizer)
    assert ours.dynamic_growth_steps == 4
    counter = source.step_counter if keras is keras_3 else source.dynamic_counter
    scale = source.dynamic_scale if keras is keras_3 else source.loss_scale
    assert float(ours.loss_scale) == float(scale.numpy())
    assert int(ours.step_counter.numpy()) == int(counter.numpy())
    for i in range(2):
        slot = list(inner.variables)[(2 if keras is keras_3 else 1) + 2 * i]
        np.testing.assert_array_equal(state.slots(ours, i)["momentum"], slot.numpy())


# Files.


def compiled(keras, optimizer):
    layers = keras.layers
    model = keras.Sequential([layers.Input((3,)), layers.Dense(2, name="dense")])
    model.compile(optimizer, "mse")
    for variable, value in zip(model.trainable_variables, start_values()):
        variable.assign(value)
    variables = model.trainable_variables
    optimizer = model.optimizer
    if hasattr(optimizer, "build"):
        optimizer.build(variables)
    apply(optimizer, variables, gradients()[:FIRST])
    return model


KNOWN = [name for name in IN_KERAS if hasattr(RUNNING.optimizers, name)]
FILES = [(name, (".keras", ".weights.h5")[i % 2]) for i, name in enumerate(KNOWN)]  # in turn


@pytest.mark.parametrize(("name", "suffix"), FILES)
def test_files_of_the_running_keras(tmp_path, name, suffix):
    source = getattr(RUNNING.optimizers, name)(0.05)
    model = compiled(RUNNING, source)
    path = tmp_path / f"model{suffix}"
    (model.save if suffix == ".keras" else model.save_weights)(str(path))
    template = None
    if suffix == ".weights.h5":
        template = getattr(tko, name)(0.05, jit_compile=False, **harness.fixed(name))
    variables = model.trainable_variables
    ours = tko.convert(path, variables, optimizer=template, jit_compile=False)
    assert template is None or not template.built
    assert_goes_on(ours, source, variables, moves=name != "SGD")


def test_a_file_takes_its_exclusions_from_the_optimizer_that_is_given(tmp_path):
    source = RUNNING.optimizers.AdamW(0.05, weight_decay=0.5)
    source.exclude_from_weight_decay(var_names=["bias"])
    model = compiled(RUNNING, source)
    model.save(str(tmp_path / "model.keras"))
    template = tko.AdamW(0.05, weight_decay=0.5, jit_compile=False)
    template.exclude_from_weight_decay(var_names=["bias"])
    variables = model.trainable_variables
    ours = tko.convert(tmp_path / "model.keras", variables, optimizer=template)
    assert_goes_on(ours, source, variables)


HDF5_CASES = [("new", name) for name in ("Adam", "SGD", "Nadam")]
HDF5_CASES += [
    ("legacy", name) for name in ("Adam", "RMSprop", "SGD")[: 1 if harness.IS_KERAS_3 else 3]
]


@pytest.mark.parametrize(("kind", "name"), HDF5_CASES)
def test_whole_models_in_hdf5(tmp_path, kind, name):
    keras, module = (keras_2, legacy) if kind == "legacy" else (RUNNING, RUNNING.optimizers)
    source = getattr(module, name)(0.05)
    model = compiled(keras, source)
    path = tmp_path / "model.h5"
    model.save(str(path))
    variables = model.trainable_variables
    ours = tko.convert(path, variables, jit_compile=False)
    assert_goes_on(ours, source, variables, moves=name != "SGD")


CHECKPOINTS = [
    pytest.param(keras, name, id=f"{keras.__name__}-{name}")
    for keras in (keras_3, keras_2)
    for name in ("Nadam", "SGD", "Adafactor", "Adam")[: 4 if keras is RUNNING else 1]
]


@pytest.mark.parametrize(("keras", "name"), CHECKPOINTS)
def test_checkpoints(tmp_path, keras, name):
    source = getattr(keras.optimizers, name)(0.05)
    variables = trained(keras, source)
    prefix = tf.train.Checkpoint(optimizer=source).save(str(tmp_path / "at"))
    template = getattr(tko, name)(0.5)  # the rate is in the checkpoint
    ours = tko.convert(prefix, taken(variables), optimizer=template, jit_compile=False)
    assert float(ours.learning_rate.numpy()) == np.float32(0.05)
    assert_goes_on(ours, source, variables, moves=name != "SGD")


@pytest.mark.parametrize("name", ["adam", "adamax"])
def test_files_of_models_compiled_with_a_string(tmp_path, name):
    policy = RUNNING.mixed_precision.set_global_policy
    policy("mixed_float16")  # Keras 3 wraps the optimizer by itself then
    try:
        model = compiled(RUNNING, name)
    finally:
        policy("float32")
    path = tmp_path / "model.keras"
    model.save(str(path))
    ours = tko.convert(path, [tf.Variable(v, name="v") for v in start_values()])
    assert isinstance(ours, tko.LossScaleOptimizer) is harness.IS_KERAS_3
    inner = ours.inner_optimizer if harness.IS_KERAS_3 else ours
    assert type(inner).__name__.lower() == name
    assert int(inner.iterations.numpy()) == FIRST
    expected = model.optimizer.inner_optimizer
    assert float(inner.learning_rate.numpy()) == float(expected.learning_rate.numpy())
    for i in range(2):
        kept = state.slots(inner, i)
        slot = list(expected.variables)[(2 if harness.IS_KERAS_3 else 1) + i * len(kept)]
        np.testing.assert_array_equal(kept["momentum"], slot.numpy())
        assert np.abs(slot.numpy()).max() > 0


def test_a_file_with_a_loss_scale(tmp_path):
    if not harness.IS_KERAS_3:
        pytest.skip("tf_keras does not save the scale in such files")
    inner = keras_3.optimizers.Adam(0.05)
    source = keras_3.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    model = compiled(keras_3, source)
    path = tmp_path / "model.keras"
    model.save(str(path))
    variables = model.trainable_variables
    ours = tko.convert(path, variables, jit_compile=False)
    assert float(ours.loss_scale) == 8.0
    assert int(ours.step_counter.numpy()) == FIRST
    assert_goes_on(ours, source, variables)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("keras", "adam_keras.keras"),
        ("tf_keras", "adam_tf_keras.keras"),
        ("legacy", "adam_legacy.h5"),
        ("torch", None),
    ],
)
def test_stored_states(name, file):
    stored = json.loads((FIXTURES / f"adam_{name}.json").read_text())
    values = [np.asarray(value, "f") for value in stored["weights"]]
    variables = [tf.Variable(v, name=n) for v, n in zip(values, ["kernel", "bias"])]
    if file is None:
        ours = tko.convert(tensors(stored["state"]), variables, optimizer="Adam")
    else:
        ours = tko.convert(FIXTURES / file, variables)
    batches = [[np.asarray(g, "f") for g in step] for step in stored["gradients"]]
    for found, expected in zip(apply(ours, variables, batches), stored["after"]):
        for value, other in zip(found, expected):
            np.testing.assert_allclose(value, np.asarray(other, "f"), rtol=0, atol=BOUND)


def tensors(state):
    """A PyTorch state that went through JSON, as arrays."""
    entries = {
        int(key): {name: np.asarray(value, "f") for name, value in entry.items()}
        for key, entry in state["state"].items()
    }
    return {"state": entries, "param_groups": state["param_groups"]}


# PyTorch.


class Tensor:
    """Stands for a tensor of PyTorch."""

    def __init__(self, value):
        self.value, self.dtype = value, "torch.float32"

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return np.asarray(self.value, "f")


def torch_group(name, count=2, **options):
    return torch_oracles.DEFAULTS[name] | {"params": list(range(count))} | options


def torch_run(name, group, names=("kernel", "bias")):
    """Weights and state after the first steps, and the weights after each of the next."""
    optimizer = torch_oracles.OPTIMIZERS[name]
    weights = [value.astype(np.float64) for value in start_values(names)]
    states = [{} for _ in weights]
    seen = []
    for batch in gradients(names):
        for i, gradient in enumerate(batch):
            weights[i], states[i] = optimizer(weights[i], gradient, states[i], group)
        seen.append((list(weights), [dict(state) for state in states]))
    return (*seen[FIRST - 1], [weights for weights, _ in seen[FIRST:]])


TORCH_CASES = [
    ("SGD", {"lr": 0.01}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    ("Adam", {"lr": 0.01, "eps": 1e-2}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-2}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "eps": 1e-2}),
    ("RMSprop", {"lr": 0.01, "eps": 1e-2}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.5, "centered": True, "weight_decay": 0.1}),
    ("Adamax", {"lr": 0.01, "eps": 1e-2}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.01, "eps": 1e-2, "betas": (0.9, 0.9)}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adadelta", {"lr": 1.0, "weight_decay": 0.1}),
]


@pytest.mark.one_keras
@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_states_of_pytorch(case):
    name, options = case
    group = torch_group(name, **options)
    weights, states, expected = torch_run(name, group)
    state = {
        "state": {
            i: {key: Tensor(value) for key, value in entry.items()}
            for i, entry in enumerate(states)
            if entry
        },
        "param_groups": [group],
    }
    variables = [tf.Variable(w.astype("f"), name=f"v{i}") for i, w in enumerate(weights)]
    ours = tko.convert(state, variables, optimizer=name, jit_compile=False)
    found = apply(ours, variables, gradients()[FIRST:])
    for values, wanted in zip(found, expected):
        for value, other in zip(values, wanted):
            np.testing.assert_allclose(value, other, rtol=0, atol=BOUND)


def test_kernels_of_pytorch_are_transposed_and_named():
    names = ("conv", "bias", "kernel")
    group = torch_group("AdamW", 3, lr=0.01, param_names=["c.weight", "l.bias", "l.weight"])
    weights, states, expected = torch_run("AdamW", group, names)
    state = {"state": dict(enumerate(states)), "param_groups": [group]}
    values = {"l.weight": weights[2].T, "l.bias": weights[1]}
    values["c.weight"] = weights[0].transpose(2, 0, 1)
    variables = {key: tf.Variable(value.astype("f")) for key, value in values.items()}
    axes = {"l.weight": (1, 0), "c.weight": (2, 0, 1)}
    ours = tko.convert(state, variables, optimizer="AdamW", transpose=axes, jit_compile=False)
    batches = [
        [batch[2].T, batch[1], batch[0].transpose(2, 0, 1)] for batch in gradients(names)
    ]
    found = apply(ours, list(variables.values()), batches[FIRST:])[-1]
    np.testing.assert_allclose(found[0], expected[-1][2].T, atol=BOUND)
    np.testing.assert_allclose(found[1], expected[-1][1], atol=BOUND)
    np.testing.assert_allclose(found[2], expected[-1][0].transpose(2, 0, 1), atol=BOUND)
    with pytest.raises(ValueError, match=r"l\.weight|\(2, 3\)"):
        tko.convert(state, variables, optimizer="AdamW", transpose=["c.weight"])


@pytest.mark.one_keras
@pytest.mark.parametrize("adjust", ["match_rms_adamw", None])
@pytest.mark.parametrize("transpose", [False, True])
def test_muon_of_pytorch(adjust, transpose):
    group = torch_group("Muon", 1, lr=0.01, adjust_lr_fn=adjust, ns_steps=4)
    weights, states, expected = torch_run("Muon", group, ("kernel",))
    state = {"state": dict(enumerate(states)), "param_groups": [group]}
    turned = np.transpose if transpose or adjust is None else np.asarray
    if adjust is None and not transpose:
        transpose = [0]  # by number; the scale goes by inputs and outputs
    variables = [tf.Variable(turned(weights[0]).astype("f"), name="kernel")]
    ours = tko.convert(
        state, variables, optimizer="Muon", transpose=transpose, jit_compile=False
    )
    assert ours.weight_decay == 0.1 and ours.ns_steps == 4
    found = apply(ours, variables, [[turned(g)] for (g,) in gradients(("kernel",))[FIRST:]])
    for (value,), (other,) in zip(found, expected):
        np.testing.assert_allclose(value, turned(other), rtol=0, atol=BOUND)


def test_groups_of_pytorch_without_decay():
    groups = [
        torch_group("AdamW", lr=0.01, weight_decay=0.5) | {"params": [0]},
        torch_group("AdamW", lr=0.01, weight_decay=0.0) | {"params": [1]},
    ]
    ours = tko.convert(
        {"state": {}, "param_groups": groups}, variables_for(RUNNING), optimizer="AdamW"
    )
    assert ours.weight_decay == 0.5
    assert decays(ours) == [True, False]
    groups[1]["lr"] = 0.02
    with pytest.raises(ValueError, match=r"groups differ in 'lr': \[0.01, 0.02\]"):
        tko.convert({"state": {}, "param_groups": groups}, optimizer="AdamW")


@pytest.mark.parametrize("own_step", [False, True])
def test_a_penalty_is_added_to_the_clipped_gradient(own_step):
    class Steps(tko.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            variable.assign_sub(learning_rate * gradient)

    cls = Steps if own_step else tko.SGD
    optimizer = cls(0.5, weight_decay=0.25, decoupled_weight_decay=False, clipvalue=1.0)
    variable = tf.Variable([2.0, -4.0])
    optimizer.apply_gradients([(tf.constant([8.0, 0.5]), variable)])
    np.testing.assert_allclose(variable.numpy(), [2 - 0.5 * 1.5, -4 - 0.5 * (0.5 - 1.0)])


# What cannot be converted.


def test_what_cannot_be_converted_is_named():
    with pytest.raises(TypeError, match="one of tf_keras_optim already"):
        tko.convert(tko.Adam())
    with pytest.raises(TypeError, match="`convert` takes an optimizer of Keras, a path"):
        tko.convert(3)
    with pytest.raises(TypeError, match="unknown argument 'beta_3'"):
        tko.convert(RUNNING.optimizers.Adam(), beta_3=1)
    with pytest.raises(TypeError, match="`optimizer` is for files"):
        tko.convert(RUNNING.optimizers.Adam(), optimizer=tko.Adam())
    unknown = type("AdamZ", (keras_3.optimizers.Adam,), {"__module__": "keras.optimizers"})
    with pytest.raises(ValueError, match="'AdamZ' cannot be converted"):
        tko.convert(unknown())

    class Mine(RUNNING.optimizers.Adam):
        pass

    with pytest.raises(ValueError, match="Mine is a class of your own"):
        tko.convert(Mine())
    both = legacy.Adam(keras_2.optimizers.schedules.CosineDecay(0.1, 10), decay=0.1)
    with pytest.raises(ValueError, match=r"both a schedule and `decay`=0\.1"):
        tko.convert(both)


def test_variables_that_do_not_fit_are_listed():
    source = keras_2.optimizers.Adam(0.01)
    variables = trained(keras_2, source)
    with pytest.raises(ValueError, match="Pass them as `variables`"):
        tko.convert(source)
    with pytest.raises(ValueError, match="in the order in which the optimizer was built"):
        tko.convert(source, variables[::-1])
    with pytest.raises(ValueError, match=r"1: source bias, given nothing"):
        tko.convert(source, variables[:1])
    other = tf.Variable(np.zeros((2, 3), "f"), name="kernel")
    with pytest.raises(ValueError, match=r"saved \(3, 2\), expected kernel momentum \(2, 3\)"):
        tko.convert(source, [other, variables[1]])
    renamed = tf.Variable(np.zeros((3, 2), "f"), name="gamma")
    with pytest.raises(ValueError, match=r"0: source kernel, given gamma .*another name"):
        tko.convert(source, [renamed, variables[1]])


def test_files_that_cannot_be_converted(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tko.convert(tmp_path / "nowhere.keras")
    damaged = tmp_path / "damaged.keras"
    content = (FIXTURES / "adam_keras.keras").read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"damaged\.keras.*nothing was loaded"):
        tko.convert(damaged, variables_for(RUNNING))
    model = compiled(RUNNING, RUNNING.optimizers.Adam(0.01))
    weights = tmp_path / "x.weights.h5"
    model.save_weights(str(weights))
    with pytest.raises(ValueError, match="does not say what optimizer it is of"):
        tko.convert(weights, model.trainable_variables)
    with pytest.raises(ValueError, match=r"arrays are not the state of SGD"):
        tko.convert(weights, model.trainable_variables, optimizer=tko.SGD())
    with pytest.raises(ValueError, match="Pass them as `variables`"):
        tko.convert(FIXTURES / "adam_legacy.h5")
    ours = compiled(RUNNING, tko.Adam(0.01))
    ours.save(str(tmp_path / "ours.keras"))
    with pytest.raises(ValueError, match="with an optimizer of tf_keras_optim already"):
        tko.convert(tmp_path / "ours.keras", ours.trainable_variables)
    slots = trained(keras_2, source := legacy.Adam(0.01))
    prefix = tf.train.Checkpoint(optimizer=source, v=slots).save(str(tmp_path / "legacy"))
    with pytest.raises(ValueError, match="a checkpoint of a legacy optimizer"):
        tko.convert(prefix, slots, optimizer=tko.Adam())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"momentum": 0.9, "dampening": 0.5}, r"`dampening`=0\.5"),
        ("Adam", {"maximize": True}, "`maximize`=True"),
        ("Adam", {"nesterov": True}, r"unknown: \['nesterov'\]"),
        ("Muon", {"eps": 1e-6}, r"torch.optim.Muon: `eps`=1e-06"),
        ("Muon", {"adjust_lr_fn": "other"}, r"`adjust_lr_fn`='other'.*'match_rms_adamw'"),
        ("Adamm", {}, "Did you mean 'Adam'"),
        (None, {}, "pass `optimizer=` with the name"),
    ],
)
def test_options_of_pytorch_without_a_counterpart(name, options, message):
    group = torch_group(name if name in torch_oracles.DEFAULTS else "Adam", **options)
    with pytest.raises(ValueError, match=message):
        tko.convert({"state": {}, "param_groups": [group]}, optimizer=name)


def test_states_of_pytorch_that_do_not_fit():
    group = torch_group("Adam")
    _, states, _ = torch_run("Adam", group)
    state = {"state": dict(enumerate(states)), "param_groups": [group]}
    variables = variables_for(RUNNING)
    with pytest.raises(ValueError, match="it has 2 parameters, but `variables` has 1"):
        tko.convert(state, variables[:1], optimizer="Adam")
    with pytest.raises(ValueError, match=r"Missing: \[1\]; unknown: \[7\]"):
        tko.convert(state, {0: variables[0], 7: variables[1]}, optimizer="Adam")
    with pytest.raises(ValueError, match=r"kernel momentum: source \(2, 3\), here \(3, 2\)"):
        tko.convert(state, variables, optimizer="Adam", transpose=True)
    del states[1]["exp_avg_sq"]
    with pytest.raises(ValueError, match=r"bias velocity: not in the source"):
        tko.convert(state, variables, optimizer="Adam")
    states[1]["step"] = 3.0
    with pytest.raises(ValueError, match="different values of 'step'"):
        tko.convert(state, variables, optimizer="Adam")


# And back.


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_way_back(case):
    name, arguments = case
    if not hasattr(RUNNING.optimizers, name):
        pytest.skip(f"tf_keras has no {name}")
    arguments = {"learning_rate": 0.01} | arguments | harness.fixed(name)
    ours = getattr(tko, name)(**arguments, jit_compile=False)
    variables = trained(RUNNING, ours)
    back = tko.to_keras(ours)
    assert type(back) is getattr(RUNNING.optimizers, name)
    assert_same_steps(back, ours, variables)


def test_exclusions_schedules_and_scales_go_back():
    schedule = RUNNING.optimizers.schedules.CosineDecay(0.05, 20)
    ours = tko.AdamW(schedule, weight_decay=0.5, jit_compile=False)
    ours.exclude_from_weight_decay(var_names=["bias"])
    variables = trained(RUNNING, ours)
    assert_same_steps(tko.to_keras(ours), ours, variables)
    scaled = tko.LossScaleOptimizer(tko.Adam(0.01), initial_scale=8.0)
    scaled.build(variables)
    scaled.dynamic_scale.assign(4.0)
    back = tko.to_keras(scaled)
    found = back.dynamic_scale if harness.IS_KERAS_3 else back.loss_scale
    assert float(found.numpy()) == 4.0
    assert not tko.to_keras(tko.Adam()).built if harness.IS_KERAS_3 else True


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda: tko.Adam(sparse="lazy"), "`sparse`='lazy' has no counterpart"),
        (lambda: tko.Adam(epsilon_after_correction=True), "`epsilon_after_correction`=True"),
        (lambda: tko.Nadam(momentum_decay=0.004), "`momentum_decay`=0.004"),
        (lambda: tko.SGD(decoupled_weight_decay=False), "`decoupled_weight_decay`=False"),
        (
            lambda: tko.Adam(
                beta_1=RUNNING.optimizers.schedules.InverseTimeDecay(0.9, 10, 0.1)
            ),
            "`beta_1` follows a schedule",
        ),
    ],
)
def test_what_keras_has_no_counterpart_for(optimizer, message):
    with pytest.raises(ValueError, match=message):
        tko.to_keras(optimizer())


@pytest.mark.skipif(
    not hasattr(RUNNING.optimizers, "ScheduleFreeAdamW"), reason="this Keras has no such class"
)
def test_schedule_free_steps_are_converted_where_they_are_the_same():
    plain = {"beta_1": 1.0, "rate_power": 0.0}
    others = [{}, {"beta_1": 1.0}, {**plain, "weight_decay": 0.1}]
    for options, name in zip(others, ("`beta_1`=0.9", "`rate_power`=2.0", "`weight_decay`")):
        with pytest.raises(ValueError, match=f"{name}.* has no counterpart"):
            tko.to_keras(tko.ScheduleFreeAdamW(**options))
    source = RUNNING.optimizers.ScheduleFreeAdamW(0.01, weight_decay=0.1)
    with pytest.raises(ValueError, match=r"ScheduleFreeAdamW.*'weight_decay' \(here 0.1\)"):
        tko.convert(source)
    ours = tko.convert(source, weight_decay=0.2, beta_1=0.95)
    assert (ours.weight_decay, ours.beta_1, ours.rate_power) == (0.2, 0.95, 0.0)


def test_state_that_would_be_lost_is_not_given_back():
    variable = tf.Variable([1.0, 2.0], dtype=tf.bfloat16, name="narrow")
    ours = tko.Adam(0.01)
    ours.build([variable])
    with pytest.raises(ValueError, match="'narrow' is bfloat16"):
        tko.to_keras(ours)
    with pytest.raises(TypeError, match="takes one of the optimizers of tf_keras_optim"):
        tko.to_keras(RUNNING.optimizers.Adam())
