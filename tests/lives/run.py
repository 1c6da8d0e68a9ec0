"""Lives many lives; what is loaded in another process is loaded in one child for all."""

import contextlib
import dataclasses
import gc
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import time
import traceback

import tensorflow as tf

from tests.lives import compare, files, models, reference, story
from tests.lives.life import Life

ROOT = pathlib.Path(__file__).resolve().parents[2]
_MOST_LINES = 6
_SPEC, _RESULTS = "lives.pickle", "results.pickle"


@dataclasses.dataclass
class Outcome:
    """What became of a life.

    Attributes:
      life: the life.
      differences: lines; none where everything is as it must be.
      seconds: how long it took here, without the child process.
      reference: why there is no float64 run beside it; `None` where there is one.
    """

    life: Life
    differences: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    reference: str | None = None

    @property
    def text(self) -> str:
        """The line of the life, what differed, and how to live it again."""
        generation = "TF_USE_LEGACY_KERAS=1 " if not story.settings.IS_KERAS_3 else ""
        lines = [f"life: {self.life.line}"]
        lines += [f"  {line}" for line in self.differences[:_MOST_LINES]]
        if len(self.differences) > _MOST_LINES:
            lines.append(f"  and {len(self.differences) - _MOST_LINES} more")
        again = f'{generation}python -m tests.lives --life "{self.life.line}"'
        return "\n".join([*lines, f"  again: {again}"])


def _guarded(work):
    """Returns what a call returns, and a line for what it raises: a life may end so."""
    try:
        return work(), []
    except Exception as error:  # whatever it is, it is what this life came to
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{pathlib.Path(f.filename).name}:{f.lineno}" for f in frames[-4:]]
        text = " ".join(str(error).split())[:600]
        return None, [f"{type(error).__name__}: {text} ({' < '.join(reversed(places))})"]


def prepare():
    """What a process of lives begins with: two logical CPUs, before TensorFlow is used."""
    tf.get_logger().setLevel("ERROR")
    device = tf.config.list_physical_devices("CPU")[0]
    logical = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(device, [logical, logical])
    gc.collect()
    gc.freeze()  # collections, one after each life, need not look at what the imports made


def live(lives, directory, peer=False, report=None):
    """Lives lives.

    Args:
      lives: the lives.
      directory: an empty directory for what they save.
      peer: with Keras' own optimizers, to see whether Keras gets through them.
      report: called with each outcome as soon as it is known.

    Returns:
      outcomes: one for each life, in order.
    """
    outcomes, waiting = [Outcome(life) for life in lives], []
    for number, outcome in enumerate(outcomes):
        place = pathlib.Path(directory) / str(number)
        place.mkdir()
        begun = time.perf_counter()
        with models.policy(outcome.life.policy):
            ended = _begin(outcome, place, peer)
        if ended is not None:
            waiting.append((number, *ended))
        tf.keras.backend.clear_session()
        outcome.seconds = time.perf_counter() - begun
        if report and not (waiting and waiting[-1][0] == number):
            report(outcome)
    _join(outcomes, waiting, directory, peer, report)
    return outcomes


def _begin(outcome, place, peer):
    """Lives a life as far as this process goes; returns what the child needs, if anything."""
    life = outcome.life
    lived, outcome.differences = _guarded(lambda: story.straight(life, place, peer))
    if lived is None:
        outcome.differences[0] = f"uninterrupted: {outcome.differences[0]}"
        return None
    kept, end = lived
    outcome.reference = "Keras' own optimizers" if peer else reference.reason_against(life)
    if life.event == "head" or files.is_without_slots(life):
        outcome.reference = "what is compared is what was loaded"
    if outcome.reference is None:
        outcome.differences += _compared_with_float64(life, end)
    if life.save == "none":
        return None
    if life.where == "process":
        return kept, end
    with models.policy(story.policy_at_load(life)):
        found, raised = _guarded(lambda: story.resumed(life, place, kept, peer))
    outcome.differences += _compared(life, found, raised, end)
    return None


def _compared_with_float64(life, end):
    found, raised = _guarded(lambda: story.in_float64(life))
    if found is None:
        return [f"in float64: {raised[0]}"]
    start, weights = found
    lines, raised = _guarded(lambda: compare.with_float64(life, end, weights, start))
    return raised if lines is None else lines


def _compared(life, found, raised, end):
    if found is None:
        return [f"interrupted: {raised[0]}"]
    if life.load_policy != "same":
        return compare.closely(life, found, end, life.epochs[2] * life.steps)
    return compare.exactly(found, end)


def _join(outcomes, waiting, directory, peer, report):
    """Has the child live on, and compares."""
    if not waiting:
        return
    spec = [(number, outcomes[number].life.line, kept) for number, kept, _ in waiting]
    directory = pathlib.Path(directory)
    (directory / _SPEC).write_bytes(pickle.dumps((spec, peer)))
    run = subprocess.run(
        [sys.executable, "-m", "tests.lives", "--child", str(directory)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    results = {}
    with contextlib.suppress(FileNotFoundError):
        results = pickle.loads((directory / _RESULTS).read_bytes())
    for number, _, end in waiting:
        nothing = (
            None,
            [f"the other process ended with {run.returncode}: {run.stderr[-600:]}"],
        )
        found, raised = results.get(number, nothing)
        outcomes[number].differences += _compared(outcomes[number].life, found, raised, end)
        if report:
            report(outcomes[number])


def child(directory):
    """Lives on, in another process, what was saved in the first one."""
    directory = pathlib.Path(directory)
    spec, peer = pickle.loads((directory / _SPEC).read_bytes())
    results = {}
    for number, line, kept in spec:
        life, place = Life.parse(line), directory / str(number)
        with models.policy(story.policy_at_load(life)):
            results[number] = _guarded(
                lambda life=life, place=place, kept=kept: story.resumed(life, place, kept, peer)
            )
        tf.keras.backend.clear_session()
        (directory / _RESULTS).write_bytes(pickle.dumps(results))


def live_one(life, peer=False):
    """Lives one life in a directory of its own; returns its outcome."""
    with tempfile.TemporaryDirectory() as directory:
        return live([life], directory, peer)[0]
