"""Optimizers with their arguments: for the package, for Keras' own, and for the reference."""

import math

import tensorflow as tf

import tf_keras_optim as tko
from tests import oracles
from tf_keras_optim.optimizers.records import of, records

IS_KERAS_3 = not tf.keras.optimizers.Optimizer.__module__.startswith("tf_keras")

# By name: the learning rate at which the tiny models move well, and the variants. A pair is a
# schedule from the first number to the second.
VARIANTS = {
    "SGD": (
        0.1,
        {
            "plain": {},
            "momentum": {"momentum": 0.9},
            "nesterov": {"momentum": 0.8, "nesterov": True},
            "scheduled": {"momentum": (0.5, 0.9)},
        },
    ),
    "RMSprop": (
        0.02,
        {
            "plain": {},
            "momentum": {"momentum": 0.5},
            "centered": {"centered": True, "momentum": 0.5},
            "scheduled": {"rho": (0.5, 0.9)},
        },
    ),
    "Adam": (
        0.02,
        {
            "plain": {},
            "amsgrad": {"amsgrad": True},
            "betas": {"beta_1": 0.5, "beta_2": 0.9},
            "scheduled": {"beta_1": (0.5, 0.9), "beta_2": (0.8, 0.99)},
        },
    ),
    "AdamW": (
        0.02,
        {"plain": {}, "nesterov": {"nesterov": True}, "scheduled": {"beta_2": (0.8, 0.99)}},
    ),
    "Adadelta": (1.0, {"plain": {}, "scheduled": {"rho": (0.8, 0.95)}}),
    "Adagrad": (0.1, {"plain": {}, "start": {"initial_accumulator_value": 0.5}}),
    "Adamax": (0.02, {"plain": {}, "scheduled": {"beta_1": (0.5, 0.9)}}),
    "Adafactor": (
        0.1,
        {
            "plain": {},
            "absolute": {"relative_step": False},
            "unscaled": {"scale_parameter": False},
        },
    ),
    "Nadam": (
        0.02,
        {
            "plain": {},
            "betas": {"beta_1": 0.7, "beta_2": 0.9},
            "scheduled": {"beta_1": (0.5, 0.9), "beta_2": (0.8, 0.99)},
        },
    ),
    "Ftrl": (
        0.1,
        {
            "plain": {},
            "penalties": {
                "l1_regularization_strength": 0.001,
                "l2_regularization_strength": 0.01,
                "l2_shrinkage_regularization_strength": 0.01,
                "beta": 0.1,
            },
        },
    ),
    "Shampoo": (0.01, {"plain": {"every": 2}, "root": {"every": 1, "root": 2, "block": 3}}),
    "Soap": (0.01, {"plain": {"every": 2}, "skip": {"every": 3, "start": "skip"}}),
    "Lion": (0.02, {"plain": {}, "scheduled": {"beta_1": (0.5, 0.9)}}),
    "Lamb": (
        0.02,
        {
            "plain": {},
            "paper": {"decay_in_trust_ratio": True},
            # Decay inside, as the trust ratio alone takes bias corrections out again.
            "scheduled": {
                "beta_1": (0.5, 0.9),
                "beta_2": (0.8, 0.99),
                "decay_in_trust_ratio": True,
                "weight_decay": 0.1,
            },
        },
    ),
}

for record in records().values():  # what stands not above as it is
    plain = {"plain": {k: v for k, v in record.example.items() if k != "learning_rate"}}
    VARIANTS.setdefault(record.name, (record.example["learning_rate"], plain))

OPTIONS = {
    "clipnorm": {"clipnorm": 0.3},
    "clipvalue": {"clipvalue": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "decay": {"weight_decay": 0.1},
    "decay_scheduled": {"weight_decay": (0.0, 0.1)},
    "l2": {"weight_decay": 0.1, "decoupled_weight_decay": False},
    "exclude": {},  # the biases, from weight decay
    "ema": {"use_ema": True, "ema_momentum": 0.8},
    "ema_overwrite": {"use_ema": True, "ema_momentum": 0.6, "ema_overwrite_frequency": 2},
    "ema_warm": {"use_ema": True, "ema_warmup": True, "averaging_start": 3},
    "equal": {"use_ema": True, "averaging": "equal", "averaging_period": 2},
    "lookahead": {"lookahead_steps": 3, "lookahead_share": 0.8},
    "accumulate2": {"gradient_accumulation_steps": 2},
    "accumulate3": {"gradient_accumulation_steps": 3},
    "skip": {"skip_nonfinite": True},
    "factor": {"loss_scale_factor": 8.0},
    "lazy": {"sparse": "lazy"},
    "slots_bfloat16": {"slot_dtype": "bfloat16"},
    "slots_int8": {"slot_dtype": "int8"},
    "rounding": {"stochastic_rounding": True},
    "no_master": {"master_weights": False},
    "groups": {"groups": {"bias": {"learning_rate_multiplier": 0.5, "weight_decay": 0.0}}},
    "jit": {"jit_compile": True},
    "no_jit": {"jit_compile": False},
}

IN_STEP = (
    "ADOPT",
    "Adan",
    "LARS",
    "MARS",
    "Prodigy",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
)  # whose oracles take the weight decay, all decoupled ones
AVERAGES_ITSELF = ("ScheduleFreeAdamW", "ScheduleFreeSGD")
WITHOUT_L2 = ("Adan", "LARS", "Prodigy", "ScheduleFreeAdamW", "ScheduleFreeSGD")
NEEDS_MASTERS = tuple(r.name for r in records().values() if r.cls.needs_master_weights)
STEPS = "gradient_accumulation_steps"
BIAS = "bias"  # what "exclude" excludes
EIGHT_BIT = ("SGD", "Adam", "AdamW", "Lion", "Lamb")
NOT_ELEMENTWISE = tuple(r.name for r in records().values() if not r.cls.elementwise)
SCALE = {"initial_scale": 64.0, "dynamic_growth_steps": 3}
_RAMP = 4  # updates over which a scheduled hyperparameter moves


def _warmup(rate):
    return tko.schedules.Warmup(rate, steps=4)


# By name: what makes the schedule, and its value after some number of updates.
SCHEDULES = {
    "cosine": (
        lambda r: tko.schedules.CosineDecay(r, 12, alpha=0.1),
        lambda r, t: r * (0.9 * 0.5 * (1 + math.cos(math.pi * min(t, 12) / 12)) + 0.1),
    ),
    "exponential": (
        lambda r: tko.schedules.ExponentialDecay(r, 3, 0.5),
        lambda r, t: r * 0.5 ** (t / 3),
    ),
    "piecewise": (
        lambda r: tko.schedules.PiecewiseConstantDecay([2, 5], [r, r / 2, r / 4]),
        lambda r, t: r if t <= 2 else r / 2 if t <= 5 else r / 4,
    ),
    "polynomial": (
        lambda r: tko.schedules.PolynomialDecay(r, 10, r / 10),
        lambda r, t: r / 10 + (r - r / 10) * (1 - min(t, 10) / 10),
    ),
    "warmup": (_warmup, lambda r, t: r * min(t / 4, 1.0)),
    "keras": (
        lambda r: tf.keras.optimizers.schedules.InverseTimeDecay(r, 4, 0.5),
        lambda r, t: r / (1 + 0.5 * t / 4),
    ),
}


def arguments(life):
    """All arguments but the learning rate; a pair is a number that follows a schedule."""
    values = dict(VARIANTS[life.optimizer][1][life.variant])
    for option in life.options:
        values |= OPTIONS[option]
    return values


def number(value, updates):
    """The value of an argument after some number of updates."""
    if isinstance(value, tuple):
        return value[0] + (value[1] - value[0]) * min(updates / _RAMP, 1.0)
    return value


def rate_of(life):
    """The learning rate at the start, where it follows no schedule."""
    return VARIANTS[life.optimizer][0]


def scheduled_rate(life, updates):
    """The learning rate after some number of updates."""
    rate = rate_of(life)
    return rate if life.rate == "constant" else SCHEDULES[life.rate][1](rate, updates)


def make_optimizer(life, peer=False):
    """The optimizer of a life; with `peer` Keras' own, without what Keras does not know."""
    rate = rate_of(life)
    if life.rate != "constant":
        rate = SCHEDULES[life.rate][0](rate)
    values = {
        name: tko.schedules.Warmup(value[1], steps=_RAMP, initial_learning_rate=value[0])
        if isinstance(value, tuple)
        else value
        for name, value in arguments(life).items()
    }
    if peer:
        return _make_peer(life, rate, values)
    optimizer = getattr(tko, life.optimizer)(rate, **values)
    if "exclude" in life.options:
        optimizer.exclude_from_weight_decay(var_names=[BIAS])
    if life.wrapper == "scale":
        optimizer = tko.LossScaleOptimizer(optimizer, **SCALE)
    return optimizer


def _make_peer(life, rate, values):
    cls = getattr(tf.keras.optimizers, life.optimizer)
    known = cls(0.1).get_config()
    given = {n: v for n, v in values.items() if n in known and n != "jit_compile"}
    given = {n: v for n, v in given.items() if isinstance(v, (int, float, str, bool))}
    optimizer = cls(rate, **given)
    if "exclude" in life.options and given.get("weight_decay"):
        optimizer.exclude_from_weight_decay(var_names=[BIAS])
    if life.wrapper == "scale":
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer, **SCALE)
    return optimizer


def algorithm(life):
    """The oracle's step, and its hyperparameters where the life says nothing else."""
    return oracles.ALGORITHMS[of(getattr(tko, life.optimizer)).oracle]


_OTHER_CALLS = {1: 2, 2: 3, 3: 2}  # how many calls make an update after the event


def calls(life, changed):
    """How many calls make one update, before the event or after it."""
    before = arguments(life).get(STEPS, 1)
    changes = life.event == "accumulation_loaded" or (
        life.event == "accumulation" and not is_window_open(life)
    )
    return _OTHER_CALLS[before] if changed and changes else before


def is_window_open(life, parts=1):
    """Whether some parts of a life end between the calls that make an update."""
    made = sum(life.epochs[:parts]) * (life.steps - life.bad)
    return bool(made % arguments(life).get(STEPS, 1))


def own(optimizer):
    """Our optimizer: what Keras' own wrapper, which `compile` adds, is told stays there."""
    is_ours = isinstance(optimizer, (tko.Optimizer, tko.LossScaleOptimizer))
    return optimizer if is_ours else getattr(optimizer, "inner_optimizer", optimizer)


def happen(life, optimizer, in_training=True):
    """What happens to the optimizer between the first part and the second."""
    if life.event != "accumulation":
        return
    optimizer = own(optimizer)
    if not is_window_open(life):
        optimizer.gradient_accumulation_steps = calls(life, True)
    elif in_training:
        before = optimizer.gradient_accumulation_steps
        try:
            optimizer.gradient_accumulation_steps = _OTHER_CALLS[before]
        except ValueError as error:
            assert STEPS in str(error), error
        else:
            raise AssertionError(f"`{STEPS}` may change between the calls of an update")
        assert optimizer.gradient_accumulation_steps == before, "what is refused is kept"


def happen_after_saving(life, optimizer):
    """What happens to the optimizer after saving; what loads has it before."""
    optimizer = own(optimizer)
    if life.event == "accumulation_loaded":
        optimizer.gradient_accumulation_steps = calls(life, True)


def default_decay(life):
    """The weight decay of a class where none is given."""
    return 0.004 if life.optimizer == "AdamW" else 0.0
