"""Exported models take the data that the model takes: nested, ragged, sparse, by keyword."""

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

layers = tf.keras.layers
RAGGED = tf.ragged.constant([[1, 2, 3], [4], [5, 6]], dtype=tf.int64)
SPARSE = tf.sparse.from_dense(np.eye(3, 5, dtype="f") * 2)


def array(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype("f")


def source(name):
    return layers.Input((2,), name=name)


def head(units, name):
    return layers.Dense(units, name=name)


def single():
    a = source("a")
    return a, head(1, "o")(a), "mse", array(4, 2), array(4, 1), ["x"], ["y"]


def named_loss():
    return *single()[:2], {"o": "mse"}, array(4, 2), array(4, 1), ["x"], ["y"]


def list_of_one():
    a = source("a")
    return [a], [head(1, "o")(a)], ["mse"], array(4, 2), array(4, 1), ["x"], ["y"]


def dict_of_one():
    a = source("a")
    data = {"a": array(4, 2)}, {"o": array(4, 1)}
    return {"a": a}, {"o": head(1, "o")(a)}, {"o": "mse"}, *data, ["a"], ["o"]


def lists():
    a, b = source("a"), source("b")
    hidden = layers.Concatenate()([a, b])
    outputs = [head(1, "o")(hidden), head(3, "p")(hidden)]
    losses = ["mse", tf.keras.losses.SparseCategoricalCrossentropy(True, name="own")]
    data = [array(4, 2), array(4, 2, 1)[..., 0]], [array(4, 1), np.array([0, 1, 2, 0])]
    return [a, b], outputs, losses, *data, ["a", "b"], ["o", "p"]


def dicts():
    a, b = source("a"), source("b")
    hidden = layers.Concatenate()([a, b])
    outputs = {"o": head(1, "o")(hidden), "p": head(3, "p")(hidden)}
    data = {"a": array(4, 2), "b": array(4, 2)}, {"o": array(4, 1), "p": array(4, 3)}
    return {"a": a, "b": b}, outputs, {"o": "mse", "p": "mae"}, *data, ["a", "b"], ["o", "p"]


def loss_for_one_output():
    a = source("a")
    outputs = {"o": head(1, "o")(a), "p": head(3, "p")(a)}
    return a, outputs, {"o": "mse"}, array(4, 2), {"o": array(4, 1)}, ["x"], ["o"]


def nested_inputs():
    a, b, c = map(source, "abc")
    output = head(1, "o")(layers.Concatenate()([a, b, c]))
    data = {"u": [array(4, 2), array(4, 2)], "v": {"w": array(4, 2)}}, array(4, 1)
    return {"u": [a, b], "v": {"w": c}}, output, "mse", *data, ["u_0", "u_1", "v_w"], ["y"]


def dict_in_a_list():
    a, b, c = map(source, "abc")
    output = head(1, "o")(layers.Concatenate()([a, b, c]))
    data = [array(4, 2), {"b": array(4, 2), "c": array(4, 2)}], array(4, 1)
    return [a, {"b": b, "c": c}], output, "mse", *data, ["a", "b", "c"], ["y"]


def nested_outputs():
    a = source("a")
    outputs = {"u": {"o": head(1, "o")(a), "p": head(2, "p")(a)}, "q": head(1, "q")(a)}
    losses = {"u": {"o": "mse", "p": "mae"}, "q": "mse"} if harness.IS_KERAS_3 else "mse"
    labels = {"u": {"o": array(4, 1), "p": array(4, 2)}, "q": array(4, 1)}
    return a, outputs, losses, array(4, 2), labels, ["x"], ["q", "u_o", "u_p"]


CASES = [single, named_loss, list_of_one, dict_of_one, lists, dicts, loss_for_one_output,
         nested_inputs, dict_in_a_list, nested_outputs]  # fmt: skip


def exported(model, path, signature=None):
    tko.export_training(model, path, input_signature=signature, jit_compile=False)
    return tko.load_training(path)


@pytest.mark.one_keras
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_signature_is_told_from_the_model(case, tmp_path):
    inputs, outputs, loss, x, y, input_names, label_names = case()
    model = tf.keras.Model(inputs, outputs)
    all_named = isinstance(loss, dict) and "o" in loss and case is not loss_for_one_output
    metrics = {"o": ["mae"]} if all_named else None
    model.compile(tko.SGD(0.1), loss, metrics=metrics)
    again = exported(model, tmp_path / "m")
    assert (sorted(again.input_names), again.label_names) == (input_names, label_names)
    model.run_eagerly = True  # it is what the exported one is compared with
    y_here = tuple(y) if isinstance(y, list) and not harness.IS_KERAS_3 else y
    for _ in range(2):
        found = again.train_on_batch(x, y)
        model.reset_metrics()
        again.loaded.signatures["reset_metrics"]()
        expected = model.train_on_batch(x, y_here, return_dict=True)
        assert found["loss"] == pytest.approx(float(expected["loss"]), rel=1e-5)
        assert set(found) == set(expected)
    outputs, found = model.predict_on_batch(x), again.predict(x)
    flat = tf.nest.flatten(outputs)
    values = list(found.values()) if isinstance(found, dict) else [found]
    key = lambda v: (v.shape, float(v.sum()))  # noqa: E731
    for one, other in zip(sorted(map(np.asarray, flat), key=key), sorted(values, key=key)):
        np.testing.assert_allclose(one, other, rtol=1e-5)


class Words(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding, self.dense = layers.Embedding(10, 3), layers.Dense(1)

    def call(self, words, training=None):
        if isinstance(words, tf.RaggedTensor):
            found = tf.ragged.map_flat_values(self.embedding, words)
        else:
            found = self.embedding(words)
        return self.dense(tf.reduce_sum(found, 1))


def test_ragged_inputs(tmp_path):
    model, y = Words(), np.ones((3, 1), "f")
    model(tf.ones((1, 2), tf.int64))
    model.compile(tko.SGD(0.1), "mse", jit_compile=False)
    signature = (tf.RaggedTensorSpec([None, None], tf.int64), tf.TensorSpec([None, 1]))
    again = exported(model, tmp_path / "m", signature)
    assert again.input_names == ["x_row_splits", "x_values"]
    expected = np.mean((model(RAGGED).numpy() - y) ** 2)
    assert again.train_on_batch(RAGGED, y)["loss"] == pytest.approx(expected, rel=1e-5)
    losses = again.fit(RAGGED, y, batch_size=2, epochs=4, seed=0, verbose=0)["loss"]
    assert losses[-1] < losses[0]
    data = tf.data.Dataset.from_tensor_slices((RAGGED, y)).batch(2)
    assert again.fit(data, verbose=0)["loss"][0] < losses[-1]


def test_ragged_and_sparse_inputs_of_functional_models(tmp_path):
    ragged = layers.Input((None,), ragged=True, dtype="int64")
    sparse = layers.Input((5,), sparse=True)
    total = layers.Lambda(lambda v: tf.reduce_sum(v, 1), output_shape=(3,))
    models = [
        (ragged, total(layers.Embedding(10, 3)(ragged)), RAGGED),
        (sparse, layers.Dense(3)(sparse), SPARSE),
    ]
    for number, (inputs, output, x) in enumerate(models):
        model, y = tf.keras.Model(inputs, output), np.ones((3, 3), "f")
        model.compile(tko.SGD(0.1), "mse", jit_compile=False)
        again = exported(model, tmp_path / str(number))
        found = again.train_on_batch(x, y)["loss"]
        assert found == pytest.approx(float(np.mean((model(x).numpy() - y) ** 2)), rel=1e-5)
    with pytest.raises(ValueError, match=r"cannot shuffle a tf\.SparseTensor"):
        again.fit(x, y)


class Linear(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.w = self.add_weight(name="w", shape=(5, 1), initializer="ones")

    def call(self, x, training=None):
        w = tf.convert_to_tensor(self.w)
        if isinstance(x, dict):
            return tf.sparse.sparse_dense_matmul(x["in"]["sparse"], w)
        return tf.matmul(x, w)


def test_sparse_tensors_in_nested_dicts_with_sample_weights(tmp_path):
    model = Linear()
    model(tf.ones((1, 5)))
    model.compile(tko.SGD(0.1), "mse", jit_compile=False)
    spec = {"in": {"sparse": tf.SparseTensorSpec([None, 5])}}
    signature = (spec, tf.TensorSpec([None, 1]), tf.TensorSpec([None]))
    again = exported(model, tmp_path / "m", signature)
    parts = [f"in_sparse_{part}" for part in ("dense_shape", "indices", "values")]
    assert again.input_names == parts
    x, y, weight = {"in": {"sparse": SPARSE}}, np.ones((3, 1), "f"), np.array([1, 2, 3], "f")
    # Each output is 2 and each squared error 1, weighted 1, 2 and 3: their mean is 2.
    assert again.train_on_batch(x, y, weight)["loss"] == pytest.approx(2.0)
    # d/dw = 2 * 2 * weight / 3, times 0.1; the output is 2 * w.
    expected = 2 * (1 - 0.4 * weight / 3)
    np.testing.assert_allclose(again.predict(x)[:, 0], expected, rtol=1e-5)
    data = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(3)
    assert again.fit(data, verbose=0)["loss"][0] < 2.0


def test_sample_weights_for_each_output(tmp_path):
    a = source("a")
    dense = {n: layers.Dense(1, name=n, kernel_initializer="ones") for n in ("o", "p")}
    model = tf.keras.Model(a, {name: layer(a) for name, layer in dense.items()})
    model.compile(tko.SGD(0.1), {"o": "mse", "p": "mse"})
    label, weight = tf.TensorSpec([None, 1]), tf.TensorSpec([None])
    signature = (tf.TensorSpec([None, 2]), *({n: s for n in "op"} for s in (label, weight)))
    again = exported(model, tmp_path / "m", signature)
    assert again.weight_names == ["sample_weight_o", "sample_weight_p"]
    y = {name: np.zeros((2, 1), "f") for name in "op"}
    weights = {"o": np.array([1, 0], "f"), "p": np.array([0.5, 0], "f")}
    # The outputs are 2 and the squared errors 4: 4 * 1 / 2 + 4 * 0.5 / 2.
    found = again.test_on_batch(np.ones((2, 2), "f"), y, weights)
    assert found["loss"] == pytest.approx(3.0)
    with pytest.raises(ValueError, match="takes one 'sample_weight'"):
        tko.export_training(model, tmp_path / "n", lambda y, o: o["o"], signature)


class Keywords(tf.keras.Model):
    """A model whose steps call it with several arguments."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1, kernel_initializer="ones")

    def call(self, left, *, right, training=None):
        return self.dense(left + 2 * right)

    def _loss(self, data):
        x, y = data
        return tf.reduce_mean((self(x["left"], right=x["right"]) - y) ** 2)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self._loss(data)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return {"loss": loss}

    def test_step(self, data):
        return {"loss": self._loss(data)}

    def predict_step(self, data):
        return self(data[0]["left"], right=data[0]["right"])


def test_models_with_keyword_inputs(tmp_path):
    model, one = Keywords(), tf.ones((1, 2))
    model(one, right=one)
    model.compile(tko.SGD(0.1), "mse", jit_compile=False)
    spec = tf.TensorSpec([None, 2])
    signature = ({"left": spec, "right": spec}, tf.TensorSpec([None, 1]))
    again = exported(model, tmp_path / "m", signature)
    x = {"left": np.ones((1, 2), "f"), "right": np.full((1, 2), 2.0, "f")}
    assert again.train_on_batch(x, np.ones((1, 1), "f")) == {"loss": pytest.approx(81.0)}
    # d/dw = 2 * 9 * 5, d/db = 2 * 9; the kernel is 1 - 9 twice, the bias -1.8.
    np.testing.assert_allclose(again.predict(x), [[-81.8]], rtol=1e-5)


def test_what_cannot_be_told_or_exported_says_what_to_do(tmp_path):
    model = Linear()
    model(tf.ones((1, 5)))
    model.compile(tko.SGD(0.1), "mse")
    with pytest.raises(ValueError, match="does not say what its inputs are"):
        tko.export_training(model, tmp_path / "m")
    spec = tf.TensorArraySpec([2])
    with pytest.raises(ValueError, match=r"'x_0'.*must be a tf\.TensorSpec, tf\.RaggedTensor"):
        tko.export_training(model, tmp_path / "m", input_signature=([spec], None))
    label = tf.TensorSpec([None, 1])
    with pytest.raises(ValueError, match="would be called 'a_b'"):
        signature = ({"a": {"b": label}, "a_b": label}, label)
        tko.export_training(model, tmp_path / "m", input_signature=signature)
    sparse = tf.SparseTensorSpec([None, 1])
    cases = [
        (({}, label), "`x` of `input_signature` has no tensor"),
        (({"a": label, 1: label}, label), "have no order"),
        ((tf.TensorSpec([None, 5]), sparse), r"cannot be traced with.*y=Sparse.*to_dense"),
        ((tf.TensorSpec([None, 5]), None), r"cannot be traced with.*y=None.*`train_on_batch`"),
    ]
    for signature, message in cases:
        with pytest.raises(ValueError, match=f"(?s){message}"):
            tko.export_training(model, tmp_path / "m", input_signature=signature)
    assert not (tmp_path / "m").exists()


class Summing(tf.keras.Model):
    """Adds up all inputs that are there, each times one weight."""

    def __init__(self):
        super().__init__()
        self.w = self.add_weight(name="w", shape=(), initializer="ones")

    def call(self, x, training=None):
        found = [tf.RaggedTensor, tf.SparseTensor, tf.Tensor]
        parts = [part for part in tf.nest.flatten(x) if part is not None]
        assert len(parts) == len(found) and all(map(isinstance, parts, found))
        ragged, sparse, dense = parts
        total = tf.reduce_sum(ragged, 1)
        total += tf.sparse.sparse_dense_matmul(sparse, tf.ones((5, 1)))[:, 0]
        return (total + tf.reduce_sum(dense, 1))[:, None] * tf.convert_to_tensor(self.w)


def test_names_that_are_no_arguments_and_parts_that_are_not_there(tmp_path):
    model = Summing()
    spec = {
        "1 a": {"ä/b": tf.RaggedTensorSpec([None, None])},
        "B.c": [tf.SparseTensorSpec([None, 5]), None],
        "class": tf.TensorSpec([None, 2]),
        "none": None,
    }
    x = {
        "1 a": {"ä/b": tf.ragged.constant([[1.0, 2.0], [], [3.0]])},
        "B.c": [SPARSE, None],
        "class": np.ones((3, 2), "f"),
        "none": None,
    }
    model(x)
    model.compile(tko.SGD(0.1), "mse", jit_compile=False)
    weight = {"input_signature": (spec, tf.TensorSpec([None, 1]), tf.TensorSpec([None]))}
    tko.export_training(model, tmp_path / "m", jit_compile=False, **weight)
    again = tko.load_training(tmp_path / "m")
    assert again.input_names == [
        "B_c_0_dense_shape", "B_c_0_indices", "B_c_0_values", "x_1_a___b_row_splits",
        "x_1_a___b_values", "x_class",
    ]  # fmt: skip
    # The outputs are 3 + 2 + 2, 0 + 2 + 2 and 3 + 2 + 2; their squares are weighted.
    found = again.train_on_batch(x, np.zeros((3, 1), "f"), np.array([1, 0.5, 0], "f"))
    assert found["loss"] == pytest.approx((49 + 16 / 2) / 3)
    # d/dw = 2 * 57 / 3 = 38, times 0.1.
    np.testing.assert_allclose(again.predict(x)[:, 0], np.array([7, 4, 7]) * -2.8, rtol=1e-5)
