"""The demo: its configurations, and a short run of it."""

import json
import pathlib
import re
import subprocess
import sys

import harness
import matplotlib.image
import pytest

from tools.config import load

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_there_is_a_preset_for_every_optimizer():
    import tf_keras_optim as tko

    names = {load(path).optimizer["name"] for path in CONFIGS}
    assert names == set(tko.list_optimizers())


@pytest.mark.one_keras
@pytest.mark.parametrize("path", CONFIGS)
def test_presets_are_complete(path):
    config = load(path)
    assert config.data["name"] == "digits"
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


def test_a_short_run_compares_and_writes(tmp_path):
    arguments = ["--config=configs/digits_adamw.yaml", f"--output={tmp_path}"]
    for value in ("data.epochs=2", "model.hidden=[16]", "data.batch_size=128"):
        arguments += ["--set", value]
    run = subprocess.run(
        [sys.executable, "-m", "tools.train", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Epoch 2/2" in run.stdout  # Keras' progress bar
    summary = json.loads((tmp_path / "digits_adamw" / "summary.json").read_text())
    text = json.dumps(summary)
    assert re.search(r'"train_loss": \d', text)
    title = "Keras 3" if harness.IS_KERAS_3 else "tf_keras"
    assert title in run.stdout
    picture = matplotlib.image.imread(str(tmp_path / "digits_adamw" / "curves.png"))
    assert picture.shape[0] > 300
    assert picture[..., :3].std() > 0.01


@pytest.mark.one_keras
def test_a_mistake_ends_with_a_message_and_no_run():
    run = subprocess.run(
        [sys.executable, "-m", "tools.train", "--set", "data.epoch=1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "Did you mean 'epochs'?" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
