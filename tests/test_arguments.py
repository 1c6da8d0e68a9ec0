"""What an optimizer takes, and what it says to what it does not take."""

import inspect

import harness
import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras_2

import tf_keras_optim as tko

OTHER = keras_2 if harness.IS_KERAS_3 else keras_3


@pytest.mark.parametrize(
    "rate", [1, 0.5, np.float32(1e-3), np.float64(0.1), np.int64(2), np.array(0.25)]
)
def test_any_number_is_a_learning_rate(rate):
    optimizer = tko.Adam(rate)
    assert float(optimizer.learning_rate.numpy()) == pytest.approx(float(rate))
    variable = tf.Variable([0.0])
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    assert variable.numpy()[0] == pytest.approx(-float(rate), rel=1e-4)


def test_a_tensor_and_a_variable_are_learning_rates():
    assert float(tko.SGD(tf.constant(0.25)).learning_rate.numpy()) == 0.25
    assert float(tko.SGD(tf.Variable(0.25)).learning_rate.numpy()) == 0.25


def test_a_callable_is_asked_at_every_step():
    rates = iter([1.0, 2.0, 4.0])
    variable = tf.Variable([0.0])
    optimizer = tko.SGD(lambda: next(rates))
    for _ in range(3):
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    assert variable.numpy() == [-7.0]
    assert optimizer.trace_count == 1


def test_a_schedule_counts_updates():
    schedule = tf.keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [1.0, 2.0, 4.0])
    variable = tf.Variable([0.0])
    optimizer = tko.SGD(schedule)
    for expected in (-1.0, -3.0, -7.0, -11.0):
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        assert variable.numpy() == [expected]


@pytest.mark.parametrize("rate", ["fast", None, float("nan"), True, [0.1], np.ones(2)])
def test_anything_else_is_not_a_learning_rate(rate):
    with pytest.raises(ValueError, match="`learning_rate` must be a finite number"):
        tko.Adam(rate)


def test_a_callable_that_wants_the_step_is_no_learning_rate():
    for rate in (lambda step: 0.1 / step, OTHER.optimizers.schedules.CosineDecay(0.1, 10)):
        with pytest.raises(ValueError, match=r"schedule of the running Keras or a callable"):
            tko.Adam(rate)


def test_the_learning_rate_can_be_set_and_read_by_both_names():
    optimizer = tko.Adam()
    optimizer.learning_rate = 0.25
    assert float(optimizer.lr.numpy()) == 0.25
    optimizer.lr = np.float32(0.5)
    assert float(optimizer.learning_rate.numpy()) == 0.5
    with pytest.raises(ValueError, match="learning_rate"):
        optimizer.learning_rate = "fast"


def test_a_misspelled_argument_is_refused_with_the_nearest_one():
    with pytest.raises(TypeError, match=r"Adam\(\) .*'bets_1'.*Did you mean 'beta_1'\?"):
        tko.Adam(bets_1=0.9)


def test_two_clips_are_refused():
    with pytest.raises(ValueError, match=r"clipnorm=1\.0, global_clipnorm=2\.0"):
        tko.SGD(clipnorm=1.0, global_clipnorm=2.0)
    optimizer = tko.SGD(clipnorm=1.0)
    with pytest.raises(ValueError, match="at most one"):
        optimizer.clipvalue = 1.0


@pytest.mark.parametrize(
    "arguments",
    [
        {"beta_1": 1.0},
        {"beta_1": -0.1},
        {"beta_2": "high"},
        {"epsilon": -1e-7},
        {"amsgrad": "yes"},
        {"weight_decay": -1.0},
        {"clipnorm": 0.0},
        {"ema_momentum": 1.5},
        {"ema_overwrite_frequency": 0},
        {"ema_overwrite_frequency": 2.5},
        {"gradient_accumulation_steps": 0},
        {"loss_scale_factor": 0.0},
        {"jit_compile": "always"},
        {"use_ema": None},
    ],
)
def test_a_value_out_of_range_is_refused_by_name(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"Adam: argument `{name}` must be"):
        tko.Adam(**arguments)


def test_adamw_needs_its_decay():
    with pytest.raises(ValueError, match="`weight_decay` must be"):
        tko.AdamW(weight_decay=None)


def test_positional_arguments_are_those_of_keras():
    for cls in harness.OPTIMIZERS:
        peer = getattr(tf.keras.optimizers, cls.__name__, None)
        if peer is None:
            continue  # Keras 2 has no Lamb
        ours = list(inspect.signature(cls).parameters)
        theirs = list(inspect.signature(peer).parameters)
        theirs = [name for name in theirs if name != "adaptive_epsilon"]
        end = theirs.index("ema_overwrite_frequency") + 1
        assert ours[:end] == theirs[:end]
        parameters, defaults = (inspect.signature(c).parameters for c in (cls, peer))
        for name in ours[:end]:
            differs = (cls, name) == (tko.Lion, "learning_rate")
            differs = differs or name == "ema_overwrite_frequency"
            if differs and not harness.IS_KERAS_3:
                continue  # ours are Keras 3's
            assert parameters[name].default == defaults[name].default, (cls, name)
    optimizer = tko.AdamW(0.01, 0.02, 0.8, 0.9, 1e-6, True)
    config = optimizer.get_config()
    names = ["weight_decay", "beta_1", "beta_2", "epsilon", "amsgrad"]
    assert [config[name] for name in names] == [0.02, 0.8, 0.9, 1e-6, True]
    with pytest.raises(TypeError, match="too many positional"):
        tko.SGD(*range(20))


NON_DEFAULT = {
    "learning_rate": 0.25,
    "momentum": 0.5,
    "nesterov": True,
    "beta_1": 0.5,
    "beta_2": 0.75,
    "epsilon": 1e-3,
    "beta_3": 0.25,
    "alpha": 2.0,
    "warmup_steps": 7,
    "threshold": 4.5,
    "gamma": 0.5,
    "rectify": True,
    "clip_power": 0.5,
    "averaging_power": 1.0,
    "rate_power": 1.0,
    "proximal_decay": False,
    "trust_coefficient": 0.25,
    "cautious": True,
    "centralize_gradients": True,
    "amsgrad": True,
    "rho": 0.5,
    "centered": True,
    "epsilon_after_correction": True,
    "epsilon_inside_root": False,
    "epsilon_in_norm": True,
    "momentum_decay": 0.004,
    "initial_accumulator_value": 0.5,
    "beta_2_decay": -0.5,
    "epsilon_1": 1e-20,
    "epsilon_2": 1e-2,
    "clip_threshold": 2.0,
    "relative_step": False,
    "scale_parameter": False,
    "decay_in_trust_ratio": True,
    "exclude_from_layer_adaptation": ["bias$"],
    "sparse": {"table": "exact"},
    "aggregation_dtype": "bfloat16",
    "skip_nonfinite": True,
    "shard_slots": True,
    "master_weights": False,
    "slot_dtype": "bfloat16",
    "stochastic_rounding": True,
    "rounding_seed": 7,
    "max_consecutive_skips": 5,
    "learning_rate_power": -0.25,
    "l1_regularization_strength": 0.25,
    "l2_regularization_strength": 0.5,
    "l2_shrinkage_regularization_strength": 0.75,
    "beta": 0.125,
    "weight_decay": 0.125,
    "clipnorm": 2.0,
    "use_ema": True,
    "ema_momentum": 0.5,
    "ema_overwrite_frequency": 7,
    "averaging_start": 3,
    "averaging_period": 2,
    "ema_warmup": True,
    "lookahead_steps": 5,
    "lookahead_share": 0.25,
    "loss_scale_factor": 8.0,
    "gradient_accumulation_steps": 3,
    "adam_beta_1": 0.5,
    "adam_beta_2": 0.75,
    "adam_weight_decay": 0.25,
    "exclude_layers": ["head"],
    "exclude_embeddings": False,
    "muon_a": 3.0,
    "muon_b": -3.2,
    "muon_c": 1.2,
    "adam_lr_ratio": 0.5,
    "ns_steps": 3,
    "rms_rate": 0.25,
    "matrices": "rank_2",
    "output": None,
    "polynomial": [[3.0, -3.2, 1.2], [1.5, -0.5, 0.0]],
    "scale": "spectral",
    "input_axes": {"query": 1},
    "batch_axes": {"experts": 1},
    "per_head": True,
    "normalize": "neurons",
    "neuron_beta": 0.75,
    "shampoo_beta": 0.5,
    "block": 64,
    "grafting": "sgd",
    "grafting_epsilon": 1e-3,
    "root": 2,
    "every": 3,
    "largest_side": 64,
    "sides": "shorter",
    "start": "skip",
    "adam_for": ["head"],
    "refresh_spread": True,
    "compute_dtype": "bfloat16",
    "groups": {"bias": {"learning_rate_multiplier": 0.5}},
    "data_size": 100.0,
    "temperature": 0.5,
    "burn_in": 3,
    "seed": 7,
    "initial_d": 1e-4,
    "d_coefficient": 2.0,
    "growth_rate": 1.5,
    "use_bias_correction": True,
    "safeguard_warmup": True,
    "every_nth": 3,
    "jit_compile": False,
    "name": "mine",
}


@pytest.mark.parametrize("cls", harness.OPTIMIZERS)
def test_every_argument_survives_a_config(cls):
    known = inspect.signature(cls).parameters
    given = {name: value for name, value in NON_DEFAULT.items() if name in known}
    if cls is tko.Shampoo:
        given["start"] = 9
    refused = set()
    if cls in (tko.ScheduleFreeAdamW, tko.ScheduleFreeSGD):  # which average by themselves
        of_averages = {name for name in given if name.startswith(("ema_", "averaging_"))}
        refused = {"use_ema", "cautious", "lookahead_steps", "lookahead_share", *of_averages}
    given = {name: value for name, value in given.items() if name not in refused}
    # These exclude others of them.
    decays = {"decoupled_weight_decay", "cautious_weight_decay"}
    others = {"clipvalue", "global_clipnorm", *decays, *refused}
    assert set(known) - set(given) == others | {"gradient_reducer", "averaging"}
    config = cls(**given).get_config()
    assert {name: config[name] for name in given} == given  # no default is among them
    assert cls.from_config(config).get_config() == config
    if "use_ema" not in refused:
        mean = cls(use_ema=True, averaging="equal").get_config()
        assert cls.from_config(mean).averaging == mean["averaging"] == "equal"
    alone = {"clipvalue": 3.0, "global_clipnorm": 3.0, "decoupled_weight_decay": False}
    for name, value in (alone | {"cautious_weight_decay": True}).items():
        if name in decays and cls().decays_in_update:
            with pytest.raises(ValueError, match=f"`{name}`={value} is not possible"):
                cls(**{name: value})
            continue
        assert cls.from_config(cls(**{name: value}).get_config()).get_config()[name] == value


def test_the_base_class_alone_has_no_algorithm():
    with pytest.raises(TypeError, match="no algorithm"):
        tko.Optimizer(0.1)


def test_what_was_used_can_be_read():
    """SGD has an operation of TensorFlow's, which "auto" takes on a CPU."""
    for cls, given, used in (
        (tko.Nadam, "auto", True),
        (tko.SGD, "auto", False),
        (tko.SGD, True, True),
        (tko.SGD, False, False),
    ):
        optimizer = cls(jit_compile=given)
        assert optimizer.jit_compile_used is None
        optimizer.apply_gradients([(tf.constant([1.0]), tf.Variable([1.0]))])
        assert optimizer.jit_compile_used is used


def test_gradients_are_checked_before_anything_changes():
    a, b = tf.Variable([1.0, 2.0], name="layer/a"), tf.Variable([3.0], name="layer/b")
    optimizer = tko.SGD(1.0)
    good = tf.constant([1.0, 1.0])
    bad_calls = [
        ([(good, a), (tf.constant([1.0, 2.0]), b)], "'layer/b' has shape"),
        ([(good, a), (tf.constant([1]), b)], "'layer/b' has dtype int32"),
        ([(good, a), (good, a)], "'layer/a' was given twice"),
        ([(None, a), (None, b)], "no gradient for any variable. Variables: layer/a"),
    ]
    for pairs, message in bad_calls:
        with pytest.raises(ValueError, match=message):
            optimizer.apply_gradients(pairs)
    with pytest.raises(ValueError, match="1 gradients without variables"):
        optimizer.apply([good])
    assert a.numpy().tolist() == [1.0, 2.0]
    assert b.numpy().tolist() == [3.0]
    assert int(optimizer.iterations) == 0


def test_no_pairs_at_all_change_nothing():
    optimizer = tko.SGD()
    optimizer.apply_gradients([])
    assert int(optimizer.iterations) == 0


def test_integer_variables_are_refused_by_path():
    with pytest.raises(ValueError, match="'count' has dtype int32"):
        tko.SGD().apply_gradients([(tf.constant([1.0]), tf.Variable([1], name="count"))])


@pytest.mark.one_keras
def test_gradients_may_be_arrays():
    variable = tf.Variable([1.0, 2.0])
    tko.SGD(1.0).apply_gradients([(np.array([1.0, 1.0], "f"), variable)])
    assert variable.numpy().tolist() == [0.0, 1.0]


def test_the_forms_of_both_generations_mean_the_same():
    assert float(tko.SGD(lr=0.25).learning_rate) == 0.25
    with pytest.raises(TypeError, match="`lr` beside `learning_rate`"):
        tko.SGD(0.1, lr=0.25)
    assert tko.Adam(jit_compile=True).jit_compile is True  # Keras 2
    for cls in harness.OPTIMIZERS:
        peer = getattr(tf.keras.optimizers, cls.__name__, None)
        if peer is None:
            continue  # Keras 2 has no Lamb
        config = peer(0.25, clipnorm=2.0).get_config()
        for extra in ({}, {"is_legacy_optimizer": False}):
            ours = cls.from_config(config | extra).get_config()
            for name in set(config) - {"is_legacy_optimizer"}:
                assert ours[name] == config[name], (cls, name)


def test_patterns_are_checked():
    for value in ("bias", ["("], [3], None):
        with pytest.raises(ValueError, match="`exclude_from_layer_adaptation` must be a list"):
            tko.Lamb(exclude_from_layer_adaptation=value)


class OwnOptimizer(tko.Optimizer):
    rate = tko.Hyperparameter(0.5, above=0.0)
    kind = tko.Hyperparameter("a", choices=("a", "b"), keyword_only=True)
    learning_rate = tko.LearningRate(0.25)

    def update(self, gradient, value, slots, scalars):
        return value - scalars.learning_rate * scalars.rate * gradient, {}


class OwnSchedule(tko.schedules.Schedule):
    rate = tko.Hyperparameter(0.5, above=0.0)
    kind = tko.Hyperparameter("a", choices=("a", "b"), keyword_only=True)

    def value(self, step):
        return self.rate / (1.0 + step)


class OwnWrapper(tko.LossScaleOptimizer):
    pass


def wrapped(*args, **kwargs):
    return OwnWrapper(tko.SGD(0.5, name="inner"), *args, **kwargs)


# What makes one, its arguments, by position and by name only, and their defaults.
DECLARED = {
    "optimizer": (OwnOptimizer, ("learning_rate", "rate"), "kind", (0.25, 0.5)),
    "schedule": (OwnSchedule, ("rate",), "kind", (0.5,)),
    "wrapper": (wrapped, ("initial_scale", "dynamic_growth_steps"), "dynamic", (2.0**15, 2000)),
}


@pytest.mark.parametrize("case", DECLARED)
def test_declarations_are_signature_checks_and_configuration(case):
    make, positional, by_name, defaults = DECLARED[case]

    def configuration(made):  # without its name, which counts
        return {key: value for key, value in made.get_config().items() if key != "name"}

    made = make()
    config = configuration(made)
    assert tuple(config[name] for name in positional) == defaults
    values = [2 * value for value in defaults]
    assert configuration(make(*values)) == config | dict(zip(positional, values))
    for name, value in zip(positional, values):
        assert float(getattr(make(*values), name)) == pytest.approx(value)
    other = make(*values)
    assert type(made).from_config(other.get_config()).get_config() == other.get_config()
    if case != "wrapper":
        signature = inspect.signature(type(made))
        assert tuple(signature.parameters)[: len(positional)] == positional
        assert signature.parameters[by_name].kind is inspect.Parameter.KEYWORD_ONLY
    assert ("name" in made.get_config()) is (case != "schedule")
    with pytest.raises(TypeError, match=rf"got an unknown argument '{by_name}x'.*Did you mean"):
        make(**{by_name + "x": 1})
    with pytest.raises(ValueError, match=rf"argument `{by_name}` must be .*Received"):
        make(**{by_name: 7})
    with pytest.raises(ValueError, match=rf"argument `{positional[-1]}` must be .*Received"):
        make(**{positional[-1]: -1})
