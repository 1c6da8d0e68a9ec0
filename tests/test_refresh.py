"""Slots that an algorithm computes anew every few updates: `refresh`."""

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.steps import in_regime

SHAPES = ((4, 3), (5,))
STEPS = 8
RATE = 0.125


class Looks(tko.Optimizer):
    """Steps over the root of what had been summed up when it was looked at last."""

    refresh_every = tko.Hyperparameter(3, minimum=1, keyword_only=True)
    compiled_factor = tko.Hyperparameter(1.0, keyword_only=True)
    slots = (tko.Slot("total"), tko.Slot("root", start=1.0))

    def update(self, gradient, value, slots, scalars):
        total = slots["total"] + tf.square(gradient)
        new = value - scalars.learning_rate * gradient / slots["root"]
        return new, {"total": total, "root": slots["root"]}

    def refresh(self, value, slots, scalars):
        factor = scalars.compiled_factor if scalars.compiled else 1.0
        root = factor * tf.sqrt(1.0 + slots["total"] + tf.square(value))
        return {"root": root + 0.0 * scalars.learning_rate}


class Reference:
    """The same for one variable, in float64."""

    def __init__(self, start, every=3, factor=1.0, shift=0):
        self.value, self.total = np.asarray(start, "d"), np.zeros_like(start, "d")
        self.root, self.every, self.factor = np.ones_like(self.total), every, factor
        self.updates, self.shift = 0, shift

    def step(self, gradient=None):
        """One update of the optimizer, with a gradient of this variable or without."""
        if gradient is not None:
            self.value = self.value - RATE * np.asarray(gradient, "d") / self.root
            self.total = self.total + np.square(gradient, dtype="d")
        self.updates += 1
        since = self.updates - self.every
        if since == 0 or (since > 0 and since % self.every == self.shift):
            self.root = self.factor * np.sqrt(1.0 + self.total + self.value**2)
        return self.value


def data(steps=STEPS, shapes=SHAPES):
    generator = np.random.default_rng(3)
    starts = [generator.normal(size=shape).astype("f") for shape in shapes]
    batches = [[generator.normal(size=s).astype("f") for s in shapes] for _ in range(steps)]
    return starts, batches


def reference(starts, batches, **options):
    found = [Reference(start, **options) for start in starts]
    for batch in batches:
        for one, gradient in zip(found, batch):
            one.step(gradient)
    return [one.value for one in found]


def close(values, expected, bound=2e-6):
    for value, wanted in zip(values, expected, strict=True):
        np.testing.assert_allclose(np.asarray(value, "d"), wanted, rtol=0, atol=bound)


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
def test_slots_are_computed_anew_after_every_third_update(regime):
    starts, batches = data()
    optimizer = Looks(RATE, compiled_factor=2.0)
    values = harness.run(optimizer, batches, starts, regime)
    close(values, reference(starts, batches, factor=2.0 if regime == "xla" else 1.0))
    assert not np.allclose(values[0], reference(starts, batches, every=4)[0], atol=1e-4)


@pytest.mark.one_keras
def test_replicas_compute_the_same(strategy):
    starts, batches = data()
    shares = [[[0.25 * g for g in batch], [0.75 * g for g in batch]] for batch in batches]
    _, values = harness.run_in_replicas(strategy, lambda: Looks(RATE), shares, starts)
    close(values, reference(starts, batches))


@pytest.mark.one_keras
def test_only_updates_count_and_not_calls_that_gather():
    starts, batches = data(12)
    optimizer = Looks(RATE, gradient_accumulation_steps=2)
    variables = [tf.Variable(start) for start in starts]
    means = [[(a + b) / 2 for a, b in zip(*pair)] for pair in zip(batches[::2], batches[1::2])]
    expected = [Reference(start) for start in starts]
    for number, batch in enumerate(batches):
        optimizer.apply_gradients(zip(batch, variables))
        if number % 2:
            for one, gradient in zip(expected, means[number // 2]):
                one.step(gradient)
        state = optimizer.state_dict()["variables"].values()
        close([slots["root"] for slots in state], [one.root for one in expected])
    close([v.numpy() for v in variables], [one.value for one in expected])


@pytest.mark.one_keras
@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_that_overflows_is_none(compiled):
    starts, batches = data()
    variables = [tf.Variable(start) for start in starts]
    optimizer = Looks(RATE, skip_nonfinite=True)
    optimizer.build(variables)

    @tf.function(jit_compile=compiled)
    def step(*gradients):
        optimizer.apply_gradients(zip(gradients, variables))

    for number, batch in enumerate(batches):
        if number == 2:  # the next update is the third
            step(*[tf.constant(g) * np.inf for g in batch])
        step(*[tf.constant(g) for g in batch])
    close([v.numpy() for v in variables], reference(starts, batches))


@pytest.mark.one_keras
def test_variables_that_take_turns_are_refreshed_all_the_same():
    """Each third update has a gradient of the same one of two variables."""
    starts, batches = data(9)
    optimizer = Looks(RATE)
    variables = [tf.Variable(start) for start in starts]
    optimizer.build(variables)
    expected = [Reference(start) for start in starts]
    for number, batch in enumerate(batches):
        turn = number % 3 == 2
        optimizer.apply_gradients([(batch[turn], variables[turn])])
        expected[turn].step(batch[turn])
        expected[not turn].step()
    close([v.numpy() for v in variables], [one.value for one in expected])


@pytest.mark.one_keras
def test_a_variable_that_comes_late_has_its_own_count():
    starts, batches = data(10)
    optimizer, late = Looks(RATE), 4
    variables = [tf.Variable(start) for start in starts]
    for batch in batches[:late]:
        optimizer.apply_gradients([(batch[0], variables[0])])
    for batch in batches[late:]:
        optimizer.apply_gradients(zip(batch, variables))
    firsts, seconds = zip(*batches)
    expected = [
        reference(starts[:1], [[g] for g in firsts])[0],
        reference(starts[1:], [[g] for g in seconds[late:]])[0],
    ]
    close([v.numpy() for v in variables], expected)


@pytest.mark.one_keras
def test_groups_have_their_own_number_or_none():
    shapes = ((3,), (3,), (3,))
    starts, batches = data(shapes=shapes)
    names = ("plain", "often", "sgd")
    groups = {"often": {"refresh_every": 2}, "sgd": tko.SGD(RATE)}
    variables = [tf.Variable(start, name=name) for start, name in zip(starts, names)]
    optimizer = Looks(RATE, groups=groups)
    values = harness.run(optimizer, batches, starts, "function", variables)
    expected = reference(starts[:1], batches)
    expected += reference(starts[1:2], [batch[1:] for batch in batches], every=2)
    expected += [starts[2] - RATE * sum(batch[2].astype("d") for batch in batches)]
    close(values, expected)
    reports = optimizer.explain(print_fn=lambda text: None)
    assert [report.refreshed_every for report in reports] == [3, 2, None]


class Spread(Looks):
    refresh_spread = True


@pytest.mark.one_keras
def test_further_times_may_differ_from_variable_to_variable():
    shapes = ((2,),) * 4
    starts, batches = data(10, shapes)
    values = harness.run(Spread(RATE), batches, starts)
    expected = [
        reference([start], [[b[i]] for b in batches], shift=i % 3)[0]
        for i, start in enumerate(starts)
    ]
    close(values, expected)


class First(Looks):
    def options_for(self, variable):
        return {"refreshes": variable.rank > 1}

    @property
    def refresh_first(self):
        return 2


@pytest.mark.one_keras
def test_an_algorithm_says_when_it_begins_and_for_which_variables():
    starts, batches = data()
    optimizer = First(RATE)
    values = harness.run(optimizer, batches, starts)
    one = Reference(starts[0])
    one.updates = 1  # so that the second update counts as the third
    for batch in batches:
        one.step(batch[0])
    never = starts[1] - RATE * sum(batch[1].astype("d") for batch in batches)
    close(values, [one.value, never])
    texts = []
    reports = optimizer.explain(print_fn=texts.append)
    assert [report.refreshed_every for report in reports] == [3, None]
    assert "every 3" in texts[0] and "refreshed" in texts[0]


class Fails(Looks):
    """What it finds of the first element decides."""

    def refresh(self, value, slots, scalars):
        bad = tf.where(value > 100.0, np.nan, tf.zeros_like(value))
        return {"root": slots["root"] + 1.0, "total": slots["total"] + bad}


@pytest.mark.one_keras
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_what_is_not_finite_leaves_all_slots_of_its_variable_alone(dtype):
    good, bad = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 200.0])
    optimizer = Fails(0.0, slot_dtype=dtype)
    for _ in range(3):
        optimizer.apply_gradients([(tf.ones([2]), good), (tf.ones([2]), bad)])
    first, second = optimizer.state_dict()["variables"].values()
    for slots, root in ((first, 2.0), (second, 1.0)):
        np.testing.assert_array_equal(np.asarray(slots["root"], "f"), [root, root])
        np.testing.assert_array_equal(np.asarray(slots["total"], "f"), [3.0, 3.0])


class InCodes(tko.Optimizer):
    refresh_every = 2
    slots = (tko.Slot("mean", eight_bit="signed"),)

    def update(self, gradient, value, slots, scalars):
        return value - gradient, {"mean": gradient}

    def refresh(self, value, slots, scalars):
        return {"mean": 2.0 * slots["mean"]}


@pytest.mark.one_keras
def test_slots_in_8_bits_and_master_copies():
    start = np.linspace(1.0, 2.0, 64 * 64, dtype="f").reshape(64, 64)
    w = tf.Variable(tf.cast(start, tf.bfloat16))
    optimizer = InCodes(slot_dtype="int8")
    optimizer.build([w])
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant(start), w)])
    (slots,) = optimizer.state_dict()["variables"].values()
    assert slots["mean"].dtype == np.int8
    largest = np.max(slots["mean_scale"])
    np.testing.assert_allclose(largest, 2.0 * np.max(start), rtol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("scaled", [False, True])
def test_a_model_that_is_saved_goes_on_and_an_exported_one_too(tmp_path, scaled):
    keras = tf.keras
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("f")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    optimizer = Looks(RATE, jit_compile=False)
    model.compile(tko.LossScaleOptimizer(optimizer) if scaled else optimizer, "mse")

    def fit(chosen, steps):
        chosen.fit(x, x[:, :3], batch_size=8, epochs=steps, shuffle=False, verbose=0)

    fit(model, 4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={"Looks": Looks})
    exported = None
    if not scaled:
        signature = (tf.TensorSpec([8, 4]), tf.TensorSpec([8, 3]))
        tko.export_training(
            model, tmp_path / "export", input_signature=signature, jit_compile=False
        )
        exported = tko.load_training(tmp_path / "export")
    fit(model, 4)
    fit(loaded, 4)
    for value, other in zip(loaded.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(value, other)
    if exported is not None:
        for _ in range(4):
            exported.train_on_batch(x, x[:, :3])
        np.testing.assert_allclose(exported.predict(x), model.predict(x, verbose=0), atol=1e-6)


class Plain(tko.Optimizer):
    slots = ("total",)

    def update(self, gradient, value, slots, scalars):
        total = slots["total"] + tf.square(gradient)
        return value - scalars.learning_rate * gradient, {"total": total}


@pytest.mark.one_keras
def test_a_step_of_others_has_no_condition():
    kinds = {}
    for cls in (Plain, Looks):
        w = tf.Variable([1.0, 2.0])
        optimizer = cls(RATE, jit_compile=False)
        optimizer.build([w])
        step = in_regime(lambda o=optimizer, w=w: o.apply_gradients([(w * 2.0, w)]), "function")
        graph = step.get_concrete_function().graph
        kinds[cls] = {operation.type for operation in graph.get_operations()}
    assert not kinds[Plain] & {"If", "StatelessIf", "While", "StatelessWhile"}
    assert kinds[Looks] & {"If", "StatelessIf"}


class NoNumber(Plain):
    def refresh(self, value, slots, scalars):
        return {}


class NoMethod(Plain):
    refresh_every = 3


class WithAStep(Looks):
    def update_step(self, gradient, variable, learning_rate):
        variable.assign_sub(gradient)


def with_refresh(result, every=1):
    members = {"refresh": lambda self, value, slots, scalars: result, "refresh_every": every}
    return type("Wrong", (Plain,), members)()


@pytest.mark.one_keras
def test_what_cannot_have_an_effect_or_is_no_slot_is_refused():
    with pytest.raises(TypeError, match="NoNumber overrides `refresh` and not `refresh_every`"):
        NoNumber()
    with pytest.raises(TypeError, match="NoMethod overrides `refresh_every` and not `refresh`"):
        NoMethod()
    with pytest.raises(TypeError, match=r"WithAStep overrides `refresh`.*`update_step`"):
        WithAStep()
    w = tf.Variable([1.0, 2.0])
    with pytest.raises(TypeError, match="`refresh` of this algorithm belongs to a whole step"):
        Looks().update_step(tf.ones([2]), w, 0.1)
    for result, message in (
        ([1.0], r"`Wrong.refresh` must return a dict"),
        ({"totl": 1.0}, r"returned 'totl', which is no slot.*It has: total"),
        ({"total": tf.ones([3])}, r"'total' with shape \(2,\).*shape \(3,\)"),
        ({"total": tf.ones([2], tf.int32)}, r"floating tensors.*'total' of dtype int32"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            with_refresh(result).apply_gradients([(tf.ones([2]), w)])
    for every in (0, 2.5, True):
        with pytest.raises(ValueError, match="`refresh_every` must be an integer, at least 1"):
            with_refresh({}, every).apply_gradients([(tf.ones([2]), w)])
    assert w.numpy().tolist() == [1.0, 2.0]
