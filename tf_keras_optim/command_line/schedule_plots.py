"""A picture and a table of the schedule that a file describes."""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim import schedules

_OF_DEMO = {
    "cosine": schedules.CosineDecay,
    "exponential": schedules.ExponentialDecay,
    "polynomial": schedules.PolynomialDecay,
}
_POINTS = 1000  # in the picture
_ROWS = 11  # in the table
_MOST = 1 << 24  # bytes of a file


def plot(path: str, output: str | None = None, steps: int | None = None) -> str:
    """Draws the schedule that a file describes; returns a table of it, and what was written.

    Args:
      path: a JSON file, or a YAML file where PyYAML is installed, of one of these forms:
        `{"class_name": ..., "config": {...}}` of a schedule, as `tko.schedules.serialize` makes
        it; the same of an optimizer, whose `learning_rate` counts; a preset of the demo, with
        sections `optimizer` and `schedule`.
      output: the picture; by default beside the file, with the ending ".png".
      steps: the number of steps; by default the sum of the numbers in the schedule whose names
        end with "_steps" or "step_size", and of its last boundary.

    Raises:
      FileNotFoundError: there is no such file.
      ImportError: matplotlib is not installed, or PyYAML for a YAML file.
      ValueError: it has another form, or the number of steps is not known.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"--steps must be at least 1, received {steps}")
    config = _read(path)
    schedule, known = _schedule(config, path, steps)
    count = steps or known
    if not count:
        raise ValueError(f"{path!r} does not say how many steps there are: pass --steps")
    target = pathlib.Path(output) if output else pathlib.Path(path).with_suffix(".png")
    picture = _figure(schedule, count, pathlib.Path(path).stem)
    picture.savefig(target, dpi=120)
    rows = [f"{step:>10}  {rate:.6g}" for step, rate in _values(schedule, count, _ROWS)]
    return "\n".join([f"{'step':>10}  learning rate", *rows, f"Wrote {target}"])


def _read(path: str) -> Any:
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {path!r}")
    if file.stat().st_size > _MOST:
        raise ValueError(f"{path!r} has more than {_MOST} bytes, which no configuration has")
    content = file.read_text(encoding="utf-8")
    if file.suffix.lower() in (".yaml", ".yml"):
        try:
            import yaml
        except ImportError as error:
            raise ImportError(
                f"{path!r} is YAML: pip install 'tf_keras_optim[yaml]', or write it as JSON"
            ) from error
        try:
            return yaml.safe_load(content)
        except yaml.YAMLError as error:
            raise ValueError(f"{path!r} is no YAML: {error}") from error
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path!r} is no JSON: {error}") from error


def _schedule(config: Any, path: str, steps: int | None) -> tuple[Any, int]:
    """Returns the schedule, and how many steps it names.

    Raises:
      ValueError: the configuration has another form.
    """
    if isinstance(config, Mapping) and isinstance(config.get("schedule"), Mapping):
        return _of_demo(config, path, steps)
    if not isinstance(config, Mapping) or not isinstance(config.get("class_name"), str):
        raise ValueError(
            f"{path!r} must hold a mapping with 'class_name' and 'config', of a schedule or of "
            f"an optimizer. Received: {str(config)[:200]!r}"
        )
    name = config["class_name"].rpartition(">")[2]
    is_schedule = name in schedules.__all__ and name[:1].isupper()
    if is_schedule and "module" not in config and "registered_name" not in config:
        arguments = config.get("config")
        if not isinstance(arguments, Mapping):
            raise ValueError(f"{path!r}: 'config' must be a mapping. Received: {arguments!r}")
        return getattr(schedules, name).from_config(dict(arguments)), _named_steps(config)
    if not is_schedule and "learning_rate" in (config.get("config") or {}):
        rate = config["config"]["learning_rate"]
        if isinstance(rate, Mapping):
            return _schedule(rate, path, steps)
        raise ValueError(f"{path!r}: the learning rate of {name} is no schedule, but {rate!r}")
    return schedules.deserialize(dict(config)), _named_steps(config)


def _of_demo(config: Mapping[str, Any], path: str, steps: int | None) -> tuple[Any, int]:
    """Returns the schedule of a preset of the demo.

    Raises:
      ValueError: it names another schedule, or no rate.
    """
    options = dict(config["schedule"])
    name = options.pop("name", None)
    rate = (config.get("optimizer") or {}).get("learning_rate")
    if name not in _OF_DEMO or rate is None:
        raise ValueError(
            f"{path!r}: a preset needs `optimizer.learning_rate` and a `schedule.name` of "
            f"{', '.join(_OF_DEMO)}. Received: {rate!r}, {name!r}"
        )
    decay_steps = options.pop("decay_steps", None) or steps
    if not decay_steps:
        raise ValueError(
            f"{path!r} leaves `decay_steps` to the length of the run: pass --steps"
        )
    options = {"decay_rate": 0.1, **options} if name == "exponential" else options
    return _OF_DEMO[name](rate, decay_steps, **options), int(decay_steps)


def _named_steps(config: Any) -> int:
    """Returns how many steps a schedule names, together with those inside it."""
    return int(sum(_numbers(config)))


def _numbers(config: Any) -> Iterator[float]:
    if isinstance(config, Mapping):
        for name, value in config.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                if str(name).endswith(("_steps", "step_size")):
                    yield 2 * value if name == "step_size" else value
            elif name == "boundaries" and isinstance(value, (list, tuple)) and value:
                yield 1.25 * max(value)
            else:
                yield from _numbers(value)
    elif isinstance(config, (list, tuple)):
        for item in config:
            yield from _numbers(item)


def _values(schedule: Any, count: int, points: int) -> list[tuple[int, float]]:
    """Returns steps from 0 to `count`, at most so many, with the rates of their updates."""
    steps = np.unique(np.linspace(0, count, points).round().astype(np.int64))
    return [(int(step), float(schedule(tf.constant(step)))) for step in steps]


def _figure(schedule: Any, count: int, title: str) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "a picture needs matplotlib: pip install 'tf_keras_optim[plots]'"
        ) from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*_values(schedule, count, _POINTS)))
    axes.set(xlabel="step", ylabel="learning rate", title=title)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.grid(alpha=0.3)
    return figure
