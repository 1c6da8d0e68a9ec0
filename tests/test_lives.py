"""Random lives end alike with an interruption and without one, and as in float64."""

import dataclasses

import numpy as np
import pytest

import tf_keras_optim as tko
from tests.lives import compare, files, models, run, settings, shrink, space, story, training
from tests.lives.life import Life

# Each Keras has lives of its own. `python -m tests.lives` lives more of them.
COUNT = 8
FIRST = 0 if settings.IS_KERAS_3 else 12
SEEDS = range(FIRST, FIRST + COUNT)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    lives = [space.draw(seed) for seed in SEEDS]
    found = run.live(lives, tmp_path_factory.mktemp("lives"))
    return dict(zip(SEEDS, found))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_life_ends_as_it_must(outcomes, seed):
    assert not outcomes[seed].differences, outcomes[seed].text


def test_a_line_says_the_whole_life():
    for seed in range(200):
        life = space.draw(seed)
        assert Life.parse(life.line) == life
        assert space.draw(seed) == life


def test_every_value_of_every_field_is_drawn():
    drawn = [space.draw(seed) for seed in range(1500)]

    def values(name):
        return {getattr(life, name) for life in drawn}

    saves = {
        n for n, f in files.FORMATS.items() if (3 if settings.IS_KERAS_3 else 2) in f.keras
    }
    events = set(models.EVENTS) - (set() if settings.IS_KERAS_3 else {"lora"})
    callbacks = {"none", "scheduler", "plateau"} | ({"swap"} if settings.IS_KERAS_3 else set())
    assert values("optimizer") == set(settings.VARIANTS)
    assert values("model") == set(models.MODELS)
    assert values("loop") == set(training.LOOPS)
    assert values("event") == events
    assert values("save") == saves - {"none"}
    assert values("rate") == {"constant", *settings.SCHEDULES}
    assert values("callback") == callbacks
    assert values("wrapper") == {"none", "scale", "keras"}
    assert values("strategy") == set(training.STRATEGIES)
    assert values("missing") == {"none", "is_none", "unlisted"}
    assert {option for life in drawn for option in life.options} == set(settings.OPTIONS)
    for optimizer, (_, variants) in settings.VARIANTS.items():
        found = {life.variant for life in drawn if life.optimizer == optimizer}
        assert found == set(variants)


# That a life can fail: each fault is one that an optimizer could have.

PLAIN = Life(model="sequential", optimizer="Adam", loop="own", epochs=(1, 1, 1))


def differences(life, directory):
    return run.live([life], directory)[0].differences


def saved_as(save, **further):
    return dataclasses.replace(PLAIN, save=save, **further)


def loads_without(*names):
    """A loader that leaves numbered arrays out, by how the notes name them."""
    load = tko.Adam.load_state_dict

    def load_state_dict(self, state, *args, **kwargs):
        changed = dict(state)
        for name in names:
            scalars = {n: v for n, v in state["scalars"].items()}
            scalars[name] = np.zeros_like(scalars[name])
            changed["scalars"] = scalars
        return load(self, changed, *args, **kwargs)

    return load_state_dict


def test_lost_iterations_are_noticed(monkeypatch, tmp_path):
    monkeypatch.setattr(tko.Adam, "load_state_dict", loads_without("iterations"))
    found = differences(saved_as("state_dict", built=True), tmp_path)
    assert any("scalar iterations" in line for line in found)
    assert any(line.startswith("weight") for line in found)


def test_swapped_slots_are_noticed(monkeypatch, tmp_path):
    save = tko.Adam.state_dict

    def state_dict(self):
        state = save(self)
        kernels = [p for p in state["variables"] if p.endswith("bias")]
        first = state["variables"][kernels[0]]
        first["momentum"] = first["momentum"][::-1].copy()
        return state

    life = saved_as("state", built=True)
    monkeypatch.setattr(tko.Adam, "state_dict", state_dict)
    assert any("slot momentum" in line for line in differences(life, tmp_path))


def test_a_learning_rate_that_is_not_saved_is_noticed(monkeypatch, tmp_path):
    configuration = tko.Adam.get_config

    def get_config(self):
        return configuration(self) | {"beta_1": 0.8}

    monkeypatch.setattr(tko.Adam, "get_config", get_config)
    found = differences(saved_as("keras"), tmp_path)
    assert any(line.startswith("weight") for line in found)


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("name", "value", "optimizer"),
    [("beta_1", 0.89, "Adam"), ("beta_2", 0.998, "Adam"), ("rho", 0.901, "RMSprop")],
)
def test_another_hyperparameter_is_noticed_by_float64(
    monkeypatch, tmp_path, name, value, optimizer
):
    monkeypatch.setitem(settings.VARIANTS[optimizer][1], "plain", {name: value})
    life = dataclasses.replace(PLAIN, optimizer=optimizer)
    assert not differences(life, tmp_path)

    class Forgetful(getattr(tko, optimizer)):
        def __init__(self, *args, **kwargs):
            kwargs.pop(name)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(tko, optimizer, Forgetful)
    (tmp_path / "again").mkdir()
    found = differences(life, tmp_path / "again")
    assert any("float64" in line for line in found)


FORGOTTEN = {
    "clipnorm": "clipnorm",
    "clipvalue": "clipvalue",
    "global_clipnorm": "global_clipnorm",
    "decay": "weight_decay",
    "ema_overwrite": "ema_overwrite_frequency",
    "equal": "averaging",
    "lookahead": "lookahead_share",
    "accumulate2": "gradient_accumulation_steps",
}


@pytest.mark.one_keras
@pytest.mark.parametrize("option", FORGOTTEN)
def test_a_forgotten_option_is_noticed(monkeypatch, tmp_path, option):
    loop = "fit" if option == "equal" else PLAIN.loop  # which ends with the averages
    life = dataclasses.replace(PLAIN, optimizer="SGD", options=(option,), loop=loop)
    assert not differences(life, tmp_path)

    class Forgetful(tko.SGD):
        def __init__(self, *args, **kwargs):
            kwargs.pop(FORGOTTEN[option])
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(tko, "SGD", Forgetful)
    (tmp_path / "again").mkdir()
    found = differences(life, tmp_path / "again")
    assert any("float64" in line for line in found)


def test_what_raises_is_a_difference_with_the_line_to_run_again(monkeypatch, tmp_path):
    def save_own_variables(self, store):
        raise OSError("the disk is full")

    monkeypatch.setattr(tko.Adam, "save_own_variables", save_own_variables)
    (outcome,) = run.live([saved_as("weights")], tmp_path)
    assert "the disk is full" in outcome.differences[0]
    assert f'python -m tests.lives --life "{outcome.life.line}"' in outcome.text


@pytest.mark.one_keras(2)
def test_a_life_is_shortened_to_what_fails(monkeypatch):
    def save_own_variables(self, store):
        raise OSError("the disk is full")

    monkeypatch.setattr(tko.Adam, "save_own_variables", save_own_variables)
    life = saved_as("weights", options=("clipnorm",), steps=3)
    shortest = shrink.shrink(life).life
    assert shortest.line == "optimizer=Adam save=weights"


def test_a_bound_follows_the_number_of_updates_and_the_dtype():
    assert compare.tolerance(PLAIN, 10) == 640 * 2.0**-24
    half = dataclasses.replace(PLAIN, policy="mixed_bfloat16")
    assert compare.tolerance(half, 10) == 640 * 2.0**-7


def test_the_float64_run_follows_keras(tmp_path):
    """The reference itself, beside Keras' own optimizer where that computes the same."""
    life = dataclasses.replace(
        PLAIN, optimizer="RMSprop", options=("clipnorm", "decay"), loop="fit_nojit"
    )
    _, end = story.straight(life, tmp_path, peer=True)
    start, weights = story.in_float64(life)
    assert not compare.with_float64(life, end, weights, start)
