"""The demo: its configurations, and a short run of it."""

import json
import pathlib
import re

import harness
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

import tf_keras_optim as tko
from tools import report, task, train
from tools.config import load

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_there_is_a_preset_for_every_optimizer():
    names = {load(path).optimizer["name"] for path in CONFIGS}
    assert names == set(tko.list_optimizers())


@pytest.mark.one_keras
@pytest.mark.parametrize("path", CONFIGS)
def test_presets_are_complete(path):
    config = load(path)
    assert config.data["name"] == config.name.partition("_")[0]
    assert config.name == pathlib.Path(path).stem
    assert pathlib.Path(path).read_text().startswith("#")  # says where its values come from


def test_values_can_be_set():
    config = load(
        CONFIGS[0], ["optimizer.learning_rate=3e-3", "model.hidden=[8, 4]", "data.epochs=2"]
    )
    assert config.optimizer["learning_rate"] == 0.003
    assert config.model["hidden"] == [8, 4]
    assert config.data["epochs"] == 2


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rat=1", "'learning_rat'.*Did you mean 'learning_rate'"),
        ("optimiser.learning_rate=1", "'optimiser'.*Did you mean 'optimizer'"),
        ("data.epoch=1", "'epoch'.*Did you mean 'epochs'"),
        ("schedule.name=cosin", "'cosin'.*Did you mean 'cosine'"),
        ("optimizer.name=adamm", "'adamm'.*Did you mean 'adam"),
        ("data.epochs=many", "`epochs` must be an integer"),
        ("optimizer.beta_1=2", "`beta_1` must be a finite number"),
        ("model.hidden=[0]", "`hidden` must be a list of layer widths"),
        ("epochs", r"expected section\.key=value"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(ValueError, match=message):
        load("configs/digits_adamw.yaml", [override])


def test_mistakes_in_a_file_name_the_file(tmp_path):
    cases = {
        "optimizer: [1, 2]": "must hold `key: value` lines",
        "optimizer: {name: adam": "is not valid YAML",
        "!!python/object/apply:os.getcwd []": "is not valid YAML",
        "text": "must hold the sections",
        "model: {hidden: [8]}": "needs the key `name`",
    }
    for text, message in cases.items():
        path = tmp_path / "case.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as caught:
            load(str(path))
        assert "case.yaml" in str(caught.value)
    with pytest.raises(ValueError, match="There is no configuration"):
        load(str(tmp_path / "none.yaml"))


@pytest.fixture
def demo(capsys):
    """Runs the demo's program with arguments; returns what it printed."""

    def run(*arguments):
        flags.FLAGS(["train", *arguments])
        train.main(["train"])
        return capsys.readouterr().out

    yield run
    flags.FLAGS.unparse_flags()
    for name in ("config", "set", "output"):
        flags.FLAGS[name].unparse()


def test_a_short_run_compares_and_writes(demo, tmp_path):
    arguments = ["--config=configs/digits_adamw.yaml", f"--output={tmp_path}"]
    for value in ("data.epochs=2", "model.hidden=[16]", "data.batch_size=128"):
        arguments += ["--set", value]
    printed = demo(*arguments)
    assert "Epoch 2/2" in printed  # Keras' progress bar
    assert re.search(r"^gradient_norm +\d", printed, re.M)  # what the monitor saw
    summary = json.loads((tmp_path / "digits_adamw" / "summary.json").read_text())
    text = json.dumps(summary)
    assert re.search(r'"train_loss": \d', text)
    title = "Keras 3" if harness.IS_KERAS_3 else "tf_keras"
    assert title in printed
    for name in ("curves.png", "monitor.png"):
        picture = matplotlib.image.imread(str(tmp_path / "digits_adamw" / name))
        assert picture.shape[0] > 300
        assert picture[..., :3].std() > 0.01


@pytest.mark.one_keras
def test_a_mistake_ends_with_a_message_and_no_run(demo):
    with pytest.raises(SystemExit, match=r"^error: .*Did you mean 'epochs'\?"):
        demo("--set=data.epoch=1")


# Presets that show groups, narrow layers, accumulation and another task.


def trained(name, *values):
    """A short run of a preset: Keras' optimizer, what the monitor saw, and the result."""
    config = load(f"configs/{name}.yaml", ["data.epochs=1", *values])
    data = task.load_data(config)
    ours, peer = train.make_optimizers(config, 8)
    monitor = tko.callbacks.OptimizerMonitor(every=1)
    with task.precision(config):
        weights = task.build_model(config, data.classes).get_weights()
        result = train.train(config, data, ours, weights, [monitor])
    assert tf.keras.mixed_precision.global_policy().name == "float32"
    assert np.isfinite(result.step_losses).all()
    assert len(monitor.records) == len(result.step_losses)
    return peer, monitor.records, result


def test_the_preset_with_groups_has_a_rate_for_each_layer():
    config = load("configs/digits_fine_tuning.yaml", ["model.hidden=[8, 8]"])
    ours, _ = train.make_optimizers(config, 8)
    ours.build(task.build_model(config).trainable_variables)
    rates = {report.path.split("/")[-2]: report.rate for report in ours.explain(str)}
    share = config.optimizer["groups"]["hidden_0"]["learning_rate_multiplier"]
    assert rates["hidden_0"] == pytest.approx(share * rates["head"])
    assert rates["hidden_0"] < rates["hidden_1"] < rates["head"]
    assert rates["hidden_1"] == pytest.approx(0.3 * rates["head"])
    assert [report.decays for report in ours.explain(str)] == [True, False] * 3
    values = ("data.examples=32", "data.batch_size=16", "model.hidden=[8, 8]")
    peer, records, _ = trained("digits_fine_tuning", *values)
    assert type(peer) is tf.keras.optimizers.AdamW
    cosine = [0.01, 0.01 * (1.0 + np.cos(np.pi / 8)) / 2.0]  # over the eight steps of a run
    for group, share in (("others", 1.0), ("hidden_0", 0.1), ("hidden_1", 0.3)):
        found = [record[f"learning_rate/groups/{group}"] for record in records]
        np.testing.assert_allclose(found, share * np.asarray(cosine), rtol=1e-5)


@pytest.mark.one_keras
def test_before_a_fine_tuning_the_digits_were_learned():
    config = load(
        "configs/digits_fine_tuning.yaml", ["model.hidden=[16]", "data.pretrain_epochs=4"]
    )
    data = task.load_data(config)
    assert data.x.shape == (config.data["examples"], 64) and data.classes == 2
    assert 0.4 < data.y_valid.mean() < 0.6 and set(data.y) == {0, 1}
    digits = task.load_data(load("configs/digits_adamw.yaml", ["data.test_fraction=0.5"]))
    np.testing.assert_array_equal(data.x_valid, digits.x_valid)
    np.testing.assert_array_equal(data.y_valid, digits.y_valid % 2)
    found = task.starting_weights(config, data)
    tf.keras.utils.set_random_seed(config.data["seed"])
    fresh = task.build_model(config, 2).get_weights()
    for place in (0, 1):  # the hidden layer
        assert np.abs(found[place] - fresh[place]).max() > 0.05
    for place in (2, 3):  # the last one
        np.testing.assert_array_equal(found[place], fresh[place])


def test_the_preset_with_narrow_layers_scales_the_loss():
    _, records, _ = trained("digits_mixed_precision", "data.examples=64")
    assert [record["loss_scale"] for record in records] == [2.0**15] * 2
    assert [record["skipped_steps"] for record in records] == [0.0] * 2
    config = load("configs/digits_mixed_precision.yaml")
    with task.precision(config):
        layers = task.build_model(config).layers
    assert [layers[0].compute_dtype, layers[-1].compute_dtype] == ["float16", "float32"]


def test_the_preset_with_accumulation_updates_in_every_fourth_step():
    peer, records, _ = trained("digits_accumulation", "data.examples=64")
    assert [record["update"] for record in records] == [0, 0, 0, 1, 1, 1, 1, 2]
    assert (peer is not None) == harness.IS_KERAS_3
    assert peer is None or peer.gradient_accumulation_steps == 4


@pytest.fixture
def eagerly():
    tf.config.run_functions_eagerly(
        True
    )  # a transformer is compiled longer than ten steps take
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.filterwarnings("ignore:Even though the:UserWarning")
def test_the_preset_of_text_trains_a_transformer(eagerly):
    values = ("data.examples=160", "model.blocks=1", "model.width=16", "schedule.name=none")
    peer, records, result = trained("text_muon", *values)
    assert type(peer) is tf.keras.optimizers.AdamW
    assert np.mean(result.step_losses[-2:]) < result.step_losses[0] - 0.3
    assert records[-1]["update"] == 10
    assert peer.global_clipnorm == 1.0
    assert float(peer.learning_rate.numpy()) == pytest.approx(0.005)


@pytest.mark.one_keras
def test_the_preset_of_text_gives_matrices_to_muon_and_decays_no_others():
    config = load("configs/text_muon.yaml", ["model.blocks=1", "model.width=16"])
    ours, _ = train.make_optimizers(config, 8)
    ours.build(task.build_model(config, 8).trainable_variables)
    by_muon = 0
    for found in ours.explain(str):
        is_kernel = found.path.endswith("kernel")
        assert found.decays == is_kernel
        is_matrix = is_kernel and not found.path.startswith("head")
        assert set(found.state) == {"momentum"} | (set() if is_matrix else {"velocity"})
        by_muon += is_matrix
    assert by_muon == 6  # four of attention, two behind it


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("path", "override", "message"),
    [
        ("digits_adam", "model.blocks=1", "'blocks'.*Known: name, precision, hidden"),
        ("text_muon", "model.hidden=[8]", "'hidden'.*Known: name, precision, blocks"),
        ("text_muon", "data.name=texts", "unknown data.name 'texts'. Did you mean 'text'"),
        ("text_muon", "peer.learning_rat=1", "'learning_rat'.*Did you mean 'learning_rate'"),
        ("text_muon", "peer.name=shampoo", "unknown peer.name 'shampoo'"),
        ("digits_adam", "peer.learning_rate=1", "section `peer` needs the key `name`"),
        ("digits_adam", "model.precision=half", "`precision` must be one of"),
    ],
)
def test_mistakes_about_tasks_and_peers_are_named(path, override, message):
    with pytest.raises(ValueError, match=message):
        load(f"configs/{path}.yaml", [override])


@pytest.mark.one_keras
def test_what_keras_does_not_have_is_trained_alone():
    steps = 4
    soap = load("configs/digits_soap.yaml")
    assert train.make_optimizers(soap, steps)[1] is None
    assert train.why_alone(soap).endswith("has no Soap")
    option = load("configs/digits_adam.yaml", ["optimizer.cautious=true"])
    assert train.make_optimizers(option, steps)[1] is None
    assert train.why_alone(option).endswith("has no argument `cautious`")
    compiled = load("configs/digits_adam.yaml", ["optimizer.jit_compile=false"])
    assert train.make_optimizers(compiled, steps)[1] is not None


@pytest.mark.one_keras
def test_the_table_of_what_was_seen():
    text = report.watched(
        [{"batch": 1.0, "rate": 0.5}, {"rate": 4.0}, {"rate": 1.0, "norm": float("nan")}]
    )
    title, row = text.splitlines()
    assert title.split()[-4:] == ["first", "median", "largest", "last"]
    assert row.split() == ["rate", "0.5", "1", "4", "1"]
