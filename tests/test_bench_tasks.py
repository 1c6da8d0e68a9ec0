"""The benchmark's suite of whole trainings: its data, one run, and what is told of many."""

import dataclasses
import itertools
import pathlib

import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tools.bench import task_data, task_extras, task_runs, tasks, timing
from tools.bench.task_runs import Run, Task

keras = tf.keras
LINE = np.linspace(-1, 1, 32, dtype="f")[:, None]
DATA = task_data.Data(LINE, np.int32(LINE[:, 0] > 0.1), LINE, np.int32(LINE[:, 0] > 0.1), 2)


def line_model(classes):
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(classes)])


TASK = Task("line", DATA, line_model, 8, 4, 0.1, ("bias",))


@pytest.mark.one_keras
def test_the_data_is_what_it_says():
    text, digits = task_data.text(), task_data.digits()
    for data in (text, digits):
        assert data.y.min() >= 0 and data.y.max() < data.classes
        assert len(data.x) == len(data.y) and len(data.x_valid) == len(data.y_valid)
    assert digits.x.shape == (1400, 8, 8, 1) and digits.x_valid.shape == (397, 8, 8, 1)
    np.testing.assert_array_equal(text.x[:, 1:], text.y[:, :-1])
    assert text.x_valid.shape == (256, task_data.LENGTH)
    # No window to train on reaches into those for validation.
    known = {row.tobytes() for row in text.x_valid}
    assert sum(row.tobytes() in known for row in text.x) <= 2  # what the text itself repeats


@pytest.mark.one_keras
def test_the_transformer_does_not_see_what_comes():
    model = task_data.text_model(5)
    x = np.random.default_rng(0).integers(0, 5, (1, task_data.LENGTH)).astype("i4")
    other = x.copy()
    other[0, 40:] = (other[0, 40:] + 1) % 5
    before, after = np.asarray(model(x)), np.asarray(model(other))
    np.testing.assert_allclose(before[0, :40], after[0, :40], atol=1e-5)
    assert np.abs(before[0, 40:] - after[0, 40:]).max() > 1e-3


@pytest.mark.one_keras
@pytest.mark.parametrize("shows", [False, True])
def test_a_run_is_the_training_by_hand(shows):
    make = lambda: tko.ScheduleFreeAdamW(0.05, jit_compile=False)  # noqa: E731
    found = task_runs.run(TASK, make(), 8, 3, shows=shows)
    assert found.at == tuple(range(1, 9))
    keras.utils.set_random_seed(3)
    model, optimizer = line_model(2), make()
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    order = np.random.default_rng(3).integers(0, 32, (8, 4))
    losses = []
    for chosen in order:
        with tf.GradientTape() as tape:
            loss = loss_of(DATA.y[chosen], model(DATA.x[chosen]))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        if shows:
            optimizer.use_evaluation_weights()
        losses.append(float(loss_of(DATA.y, model(DATA.x))))
        optimizer.use_training_weights()
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)


def line(slope, start):
    return lambda x: slope * x + start


@pytest.mark.one_keras
def test_the_equation_has_the_solution_that_is_told():
    data, step = task_data.poisson(), 1 / 500
    middle = data.y_valid[1:-1] * 2 - data.y_valid[2:] - data.y_valid[:-2]
    right = np.interp(data.x_valid[1:-1, 0], data.x[:, 0], data.y[:, 0])
    np.testing.assert_allclose(-middle[:, 0] / step**2, right, atol=2.0)  # of 85
    np.testing.assert_allclose(data.y_valid[[0, -1]], 0.0, atol=1e-6)
    # u = x (1 - x) (3 x + 2) = 2 x + x^2 - 3 x^3, so u'' = 2 - 18 x.
    x = np.linspace(0, 1, 5, dtype="f")[:, None]
    u, curvature = 2 * x + x**2 - 3 * x**3, 2 - 18 * x
    far = task_data.residual(line(3.0, 2.0), tf.constant(x), tf.constant(curvature - 2.0))
    assert float(far) == pytest.approx(4.0, rel=1e-5)
    assert float(task_data.distance(line(3.0, 2.0), tf.constant(x), tf.constant(u))) < 1e-6
    given = tf.constant(x), tf.constant(2 * u)
    assert float(task_data.distance(line(3.0, 2.0), *given)) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.one_keras
def test_a_second_pass_and_lbfgs_are_measured_of_the_runs_that_are_told(monkeypatch):
    monkeypatch.setattr(task_extras, "_SEEDS", (2,))
    monkeypatch.setattr(task_extras, "_SECOND_PASSES", (("none", {"rho": 0.0}),))
    make = lambda steps: tko.SGD(0.5, jit_compile=False)  # noqa: E731
    wrong, losses = task_extras.second_passes(TASK, make, "SGD")
    for found in (wrong, losses):
        assert list(found.figures) == ["SGD", "SGD, twice the steps", "none"]
        assert found.figures["none"] == found.figures["SGD"]  # which climbs nowhere
    by_hand = task_runs.Training(TASK, make(80), 80, 2)
    by_hand.train(0, 80)
    share = np.mean(np.argmax(by_hand.model(LINE), -1) != DATA.y)
    longer = "SGD, twice the steps"
    assert wrong.figures[longer].values[0] == pytest.approx(100 * share)
    assert losses.figures[longer].values[0] == pytest.approx(by_hand.error())
    whole = dataclasses.replace(TASK, batch=None)
    errors, computed = task_extras.finished(whole, make, "SGD", 5)
    assert list(errors.figures) == ["SGD 1, L-BFGS", "SGD 4, L-BFGS"]
    begun = task_runs.Training(whole, make(4), 4, 2)
    begun.train(0, 4)
    assert errors.figures["SGD 4, L-BFGS"].values[0] < 0.7 * begun.error()
    assert min(computed.figures["SGD 4, L-BFGS"].values) > 4


@pytest.mark.one_keras
def test_a_curve_is_at_a_target_between_two_points():
    curve = Run((10, 20, 30), (3.0, 2.0, 2.5))
    assert curve.final == 2.5
    assert curve.reaches(2.25) == 17.5
    assert curve.reaches(3.5) == 10
    assert curve.reaches(1.9) is None


@pytest.mark.one_keras
def test_a_rate_grows_and_goes_down_over_the_run():
    method = tasks.Method("own", tko.AdamW, ())
    setting = tasks.Setting(0.1, 0.25, {"beta_1": 0.8})
    optimizer = tasks.made(method, setting, TASK, 8)
    optimizer.build(line_model(2).trainable_variables)
    rates = []
    for step in range(9):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.current_learning_rate))
    assert rates[0] == 0.0 and max(rates) == pytest.approx(0.1) == rates[2]
    assert rates[8] == pytest.approx(0.0, abs=1e-8)
    assert (optimizer.beta_1, optimizer.weight_decay) == (0.8, 0.1)
    assert [report.decays for report in optimizer.explain(lambda text: None)] == [True, False]
    free = tasks.Method("free", tko.ScheduleFreeAdamW, (), scheduled=False)
    optimizer = tasks.made(free, tasks.Setting(0.1, 0.5), TASK, 8)
    assert float(optimizer.learning_rate.numpy()) == pytest.approx(0.1)
    assert optimizer.warmup_steps == 4


@pytest.mark.one_keras
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_method_is_made_with_every_setting(decay):
    task = dataclasses.replace(TASK, decay=decay)
    for method in tasks.METHODS:
        for setting in method.settings:
            assert tasks.made(method, setting, task, 8).weight_decay == decay


@pytest.mark.one_keras
def test_what_is_told_follows_from_the_runs(monkeypatch, tmp_path):
    """With runs whose losses are known: the rate 0.005 is best, a clip hurts, Muon wins."""

    def of(self, method, setting, seed=1, share=1.0):
        steps = round(share * self._task.steps)
        height = 1.0 + abs(np.log(setting.rate / 0.005)) + 0.01 * seed
        height += 0.5 * ("global_clipnorm" in setting.options)
        height -= 0.2 * (setting.warm == 0.4) * (method.name == tasks.TUNED)
        height *= 0.5 if method.name == "Muon" else 1.0
        at = tuple(range(1, steps + 1))
        return Run(at, tuple(height * steps / t + (1 - share) for t in at))

    monkeypatch.setattr(tasks.Trials, "run", of)
    monkeypatch.setattr(tasks, "_tasks", lambda quick: iter([TASK]))
    muon = tasks.Method("Muon", tko.Muon, (tasks.Setting(0.005), tasks.Setting(0.05)))
    free = tasks.Method("Free", tko.ScheduleFreeSGD, (tasks.Setting(0.005),), scheduled=False)
    monkeypatch.setattr(tasks, "METHODS", (muon, free))
    clock = itertools.count()  # each turn takes one second of it
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))

    class Given:
        tasks_quick, curves, steps = True, str(tmp_path / "curves.png"), 2
        tasks_runs = None

    found = {c.case: c for c in tasks.tasks(Given, None)}
    finals = next(c for case, c in found.items() if "validation loss after 8" in case)
    np.testing.assert_allclose(finals.figures[tasks.PLAIN].values, [1.01, 1.02, 1.03])
    np.testing.assert_allclose(finals.figures[tasks.TUNED].values, [0.81, 0.82, 0.83])
    np.testing.assert_allclose(finals.figures["Muon"].values, [0.505, 0.51, 0.515])
    assert "Muon: rate 0.005" in finals.note and "AdamW: rate 0.005" in finals.note
    steps = next(c for case, c in found.items() if case.startswith("line: steps to 1.02,"))
    assert steps.figures[tasks.PLAIN].values == (8.0,)  # by definition
    assert steps.figures["Muon"].values == (4.0,)
    assert steps.absent == {}
    seconds = next(c for case, c in found.items() if case.startswith("line: seconds to 1.02,"))
    assert seconds.figures["Muon"].values == (4.0,)
    other = next(c for case, c in found.items() if case.startswith("line: steps to 0.82,"))
    assert other.absent[tasks.PLAIN] == "ends at 1.02, after 8 steps"
    whole = next(c for case, c in found.items() if "shortest run that ends at 1.02," in case)
    # 0.505 + (1 - share) <= 1.02: from half of the steps on.
    assert whole.figures["Muon"].values == (4,)
    assert whole.figures[tasks.PLAIN].values == (8,)
    assert "no schedule" in whole.absent["Free"]
    picture = matplotlib.image.imread(Given.curves)
    assert picture[..., :3].std() > 0.01


@pytest.mark.one_keras
def test_runs_in_a_file_are_not_made_again(tmp_path, monkeypatch):
    path, setting = str(tmp_path / "runs"), tasks.Setting(0.05)
    method = tasks.Method("SGD", tko.SGD, (setting,), scheduled=False)
    made = []

    def counted(*args, **kwargs):
        made.append(args)
        return Run((1, 2), (0.5, float("inf")))

    monkeypatch.setattr(tasks, "made", lambda *args: None)
    monkeypatch.setattr(tasks, "run", counted)
    first = tasks.Trials(TASK, path).run(method, setting)
    trials = tasks.Trials(TASK, path)
    assert trials.run(method, setting) == first == Run((1, 2), (0.5, float("inf")))
    assert len(made) == 1
    trials.run(method, setting, seed=2)
    assert len(made) == 2 and len(pathlib.Path(path).read_text().splitlines()) == 2
    with open(path, "a") as file:
        file.write("[1, 2]\n")
    with pytest.raises(ValueError, match=r"--tasks_runs: line 3 of .*runs is no run"):
        tasks.Trials(TASK, path)
