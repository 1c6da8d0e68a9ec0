"""Arguments that name variables by patterns: what they match, what is refused and saved."""

import copy
import json

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras


def two_layers(names=("a", "b")):
    layers = [keras.layers.Dense(2, bias_initializer="ones", name=name) for name in names]
    return keras.Sequential([keras.layers.Input((2,)), *layers])


def decaying(model, **exclusions):
    optimizer = tko.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(**exclusions)
    model.compile(optimizer, keras.losses.MeanSquaredError())
    return optimizer


def which_decay(optimizer, model):
    """The short names of the variables that a step without gradients makes smaller."""
    found = []
    for layer in model.layers:
        for variable, kind in zip(layer.trainable_variables, ("kernel", "bias")):
            variable.assign(tf.ones(variable.shape))
            optimizer.apply_gradients([(tf.zeros(variable.shape), variable)])
            found += [f"{layer.name}/{kind}"] * bool(np.all(variable.numpy() == 0.5))
    return found


def built(optimizer, *names):
    variables = [tf.Variable([1.0], name=name) for name in names]
    optimizer.build(variables)
    return variables


def test_one_string_is_one_pattern():
    model = two_layers(("kernel_a", "b"))
    optimizer = decaying(model, var_names="bias")
    optimizer.build(model.trainable_variables)
    assert which_decay(optimizer, model) == ["kernel_a/kernel", "b/kernel"]


def test_one_variable_is_one_variable():
    model = two_layers()
    optimizer = decaying(model, var_list=model.layers[0].bias)
    optimizer.build(model.trainable_variables)
    assert which_decay(optimizer, model) == ["a/kernel", "b/kernel", "b/bias"]


MISSPELT = [
    (lambda: tko.Adam(sparse={"^userz/": "lazy"}), "sparse"),
    (lambda: tko.Adam(slot_dtype={"users": "bfloat16", "tabel": "float32"}), "slot_dtype"),
    (
        lambda: tko.Lamb(exclude_from_layer_adaptation=["kernel", "tables"]),
        "exclude_from_layer",
    ),
]


@pytest.mark.parametrize(("make", "argument"), MISSPELT, ids=[a for _, a in MISSPELT])
def test_a_pattern_that_matches_nothing_is_refused_at_build(make, argument):
    optimizer = make()
    with pytest.raises(ValueError, match=rf"`{argument}.*none of the 2 .*'users/table'"):
        built(optimizer, "users/table", "head/kernel")
    assert not optimizer.built
    assert len(optimizer.variables) <= 2


def test_a_name_that_matches_nothing_is_refused_at_build():
    optimizer = tko.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["kernel", "baias$"])
    with pytest.raises(ValueError, match=r"'baias\$'.*nearest path is 'head/bias'"):
        built(optimizer, "head/kernel", "head/bias")
    optimizer.exclude_from_weight_decay(var_names=["bias$"])
    built(optimizer, "head/kernel", "head/bias")


@pytest.mark.parametrize("everything", ["", ".*", "^"])
def test_a_pattern_may_match_everything(everything):
    optimizer = tko.Lamb(
        slot_dtype={"head": "float32", everything: "bfloat16"},
        exclude_from_layer_adaptation=[everything],
    )
    optimizer.exclude_from_weight_decay(var_names=[everything])
    variables = built(optimizer, "head/kernel", "tail/kernel")
    assert [row.state["momentum"] for row in optimizer.explain(lambda text: None)] == [
        "float32",
        "bfloat16",
    ]
    assert len(variables) == 2


def test_variables_that_come_later_are_looked_at_with_those_that_are_there():
    optimizer = tko.SGD(1.0, weight_decay=0.5, sparse={"table": "lazy"})
    late = tf.Variable([1.0], name="late/kernel")
    optimizer.exclude_from_weight_decay(var_list=[late], var_names=["bias"])
    first = built(optimizer, "table", "head/bias")
    optimizer.build([*first, late])
    optimizer.apply_gradients([(tf.zeros([1]), v) for v in (*first, late)])
    assert [v.numpy()[0] for v in (*first, late)] == [0.5, 1.0, 1.0]
    optimizer.build([])


def test_a_pattern_that_is_set_later_is_looked_at_as_well():
    optimizer = tko.Adam()
    built(optimizer, "users/table")
    with pytest.raises(ValueError, match="`sparse` has the pattern 'user_table'"):
        optimizer.sparse = {"user_table": "lazy"}
    assert optimizer.sparse == "exact"


def test_a_bad_regular_expression_is_named():
    with pytest.raises(ValueError, match=r"var_names=.*'\(' is no regular expression"):
        tko.AdamW().exclude_from_weight_decay(var_names=["bias", "("])
    with pytest.raises(ValueError, match=r"var_names=.*3 is no string"):
        tko.AdamW().exclude_from_weight_decay(var_names=[3])
    with pytest.raises(ValueError, match=r"`sparse`.*'\[' is no regular expression"):
        tko.AdamW(sparse={"[": "lazy"})


# Exclusions in configurations and files.


def test_a_configuration_without_exclusions_is_as_before():
    config = tko.AdamW().get_config()
    assert "exclude_from_weight_decay" not in config
    assert tko.AdamW.from_config(config).get_config() == config


@pytest.mark.parametrize("by_name", [True, False])
def test_a_configuration_keeps_the_exclusions(by_name):
    model = two_layers()
    given = {"var_names": ["bias"]} if by_name else {"var_list": [model.layers[1].bias]}
    expected = ["a/kernel", "b/kernel"] if by_name else ["a/kernel", "a/bias", "b/kernel"]
    optimizer = decaying(model, **given)
    for is_built in (False, False, True):
        if is_built:
            optimizer.build(model.trainable_variables)
        config = json.loads(json.dumps(optimizer.get_config()))
        optimizer = tko.SGD.from_config(config)
        assert optimizer.get_config() == config
    optimizer.build(model.trainable_variables)
    assert optimizer.get_config() == config
    assert which_decay(optimizer, model) == expected
    given = tko.SGD(1.0, **{"weight_decay": 0.5, "exclude_from_weight_decay": ["bias"]})
    given.build(model.trainable_variables)
    assert which_decay(given, model) == ["a/kernel", "b/kernel"]


def test_variables_of_other_automatic_names_are_found_again():
    config = tko.SGD(1.0, weight_decay=0.5).get_config()
    config["exclude_from_weight_decay"] = {"var_names": [], "var_paths": ["dense_3/bias"]}
    optimizer = tko.SGD.from_config(config)
    kernel, bias = built(optimizer, "dense_7/kernel", "dense_7/bias")
    optimizer.apply_gradients([(tf.zeros([1]), kernel), (tf.zeros([1]), bias)])
    assert (kernel.numpy(), bias.numpy()) == ([0.5], [1.0])
    with pytest.warns(UserWarning, match=r"excludes 'dense_3/bias'.*nearest path is"):
        built(tko.SGD.from_config(config), "dense_7/bias", "dense_8/bias")


def test_variables_are_found_by_their_place_where_names_moved_on():
    optimizer = tko.SGD(1.0, weight_decay=0.5)
    names = ["dense/bias", "dense_1/bias", "dense_2/bias"]
    variables = [tf.Variable([1.0], name=name) for name in names]
    optimizer.exclude_from_weight_decay(var_list=[variables[1]])
    optimizer.build(variables)
    again = tko.SGD.from_config(optimizer.get_config())
    others = built(again, "dense_1/bias", "dense_2/bias", "dense_3/bias")
    again.apply_gradients([(tf.zeros([1]), variable) for variable in others])
    assert [variable.numpy()[0] for variable in others] == [0.5, 1.0, 0.5]


@pytest.mark.one_keras
@pytest.mark.parametrize("way", ["file", "own file", "copy"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_saved_model_keeps_the_exclusions(way, wrapped, tmp_path):
    model = two_layers()
    optimizer = decaying(model, var_names=["bias"], var_list=[model.layers[0].kernel])
    if wrapped:
        model.compile(tko.LossScaleOptimizer(optimizer), keras.losses.MeanSquaredError())
    ones = np.ones((2, 2), "float32")
    model.fit(ones, ones, verbose=0)
    path = str(tmp_path / "model.keras")
    if way == "copy":
        again = copy.deepcopy(model)
    elif way == "file":
        model.save(path)
        again = keras.models.load_model(path)
    else:
        tko.save_model(model, path)
        again = tko.load_model(path)
    again.fit(ones, ones, verbose=0)
    inner = getattr(again.optimizer, "inner_optimizer", again.optimizer)
    for kind, decays in (("kernel", [False, True]), ("bias", [False, False])):
        rows = [row for row in inner.explain(lambda text: None) if row.path.endswith(kind)]
        assert [row.decays for row in rows] == decays


@pytest.mark.one_keras
def test_patterns_of_a_configuration_wait_for_frozen_layers(tmp_path):
    model, path = two_layers(), str(tmp_path / "frozen.keras")
    optimizer = tko.Adam(
        0.1,
        slot_dtype={"a/": "bfloat16"},
        sparse={"a/": "lazy"},
        weight_decay=0.5,
        groups={"a/": {"learning_rate_multiplier": 0.5}},
    )
    optimizer.exclude_from_weight_decay(var_names=["a/bias"])
    model.compile(optimizer, keras.losses.MeanSquaredError())
    data = np.ones((4, 2), "f")
    model.fit(data, data, verbose=0)
    model.layers[0].trainable = False
    model.save(path)
    with pytest.warns(UserWarning, match="a/.*stays for variables that come later") as told:
        loaded = keras.models.load_model(path)
        loaded.optimizer.build(loaded.trainable_variables)
    assert sum("comes with a configuration" in str(one.message) for one in told) >= 4
    loaded.layers[0].trainable = True
    loaded.optimizer.build(loaded.trainable_variables)
    reports = {r.path: r for r in loaded.optimizer.explain(lambda text: None)}
    late = next(r for path, r in reports.items() if path.endswith("a/bias"))
    assert (late.rate, late.sparse, late.decays) == (pytest.approx(0.05), "lazy", False)
    assert late.state["momentum"] == "bfloat16"
    with pytest.raises(ValueError, match="'c/'"):
        built(tko.Adam(slot_dtype={"c/": "bfloat16"}), "a")
