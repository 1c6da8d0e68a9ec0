"""Suite tasks: how many steps, and seconds, whole trainings take to an error.

Each optimizer is tuned on one seed over its rates, all with the same number of steps, and its
best setting is run with three seeds. The targets are the best losses of two AdamW: one whose
rate, beta_2 and clip were tuned, and one whose beta_1 and warm-up were tuned too. That a curve
passes the target early is not all: its learning rate is not 0 there yet. So shorter runs, whose
schedules end, say how short a whole run can be that ends at the target. The seconds of a step
are measured apart from that, with the optimizers taking turns.
"""

import dataclasses
import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tf_keras_optim as tko
from tools.bench import task_data, task_extras
from tools.bench.peers import Peers
from tools.bench.results import Comparison, Figures
from tools.bench.settings import Settings
from tools.bench.task_runs import Run, Task, Training, mean, run
from tools.bench.timing import STEP, take_turns, timed

PLAIN, TUNED = "AdamW", "AdamW, beta_1 and warm-up tuned"
_SEEDS = (1, 2, 3)
_TURN = 10  # steps that are timed together
_SHORTER = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of a run


@dataclasses.dataclass(frozen=True)
class Setting:
    """What an optimizer is made with.

    Attributes:
      rate: the largest learning rate.
      warm: the share of the steps in which it grows linearly.
      options: further arguments.
    """

    rate: float
    warm: float = 0.05
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        options = "".join(f", {name} {value}" for name, value in self.options.items())
        return f"rate {self.rate:g}, warm {self.warm:g}{options}"


@dataclasses.dataclass(frozen=True)
class Method:
    """An optimizer that is compared.

    Attributes:
      name: what it is called here.
      make: makes it: from the class' arguments.
      settings: what is tried.
      shows: whether it is validated at its weights for evaluation.
      scheduled: whether its rate goes down to 0; else it is constant after the warm-up.
    """

    name: str
    make: Callable[..., Any]
    settings: tuple[Setting, ...]
    shows: bool = False
    scheduled: bool = True


def _settings(*rates: float, warm: float = 0.05, **options: Any) -> tuple[Setting, ...]:
    return tuple(Setting(rate, warm, options) for rate in rates)


_ADAMW = {"beta_1": 0.9, "beta_2": 0.95}
_RATES = (0.002, 0.003, 0.005, 0.007, 0.01, 0.014)
METHODS = (
    Method("Muon", tko.Muon, _settings(0.01, 0.014, 0.02, 0.028)),
    Method(
        "ScheduleFreeAdamW",
        tko.ScheduleFreeAdamW,
        _settings(0.01, 0.02, 0.03, 0.04, warm=0.4, beta_1=0.95, beta_2=0.95),
        shows=True,
        scheduled=False,
    ),
    Method("Soap", tko.Soap, _settings(0.005, 0.01, 0.014, 0.02, warm=0.4)),
    Method("Shampoo", tko.Shampoo, _settings(0.003, 0.005, 0.01, 0.014, warm=0.4)),
    Method(
        "Prodigy",
        tko.Prodigy,
        _settings(
            *(0.5, 1.0, 2.0, 4.0),
            warm=0.4,
            beta_2=0.99,
            use_bias_correction=True,
            safeguard_warmup=True,
        ),
    ),
    Method(
        "AdamW, cautious",
        tko.AdamW,
        _settings(0.005, 0.007, 0.01, 0.014, cautious=True, **_ADAMW),
    ),
    Method(
        "AdamW, Lookahead",
        tko.AdamW,
        _settings(0.005, 0.007, 0.01, 0.014, lookahead_steps=5, lookahead_share=0.8, **_ADAMW),
    ),
    Method("Lion", tko.Lion, _settings(0.0005, 0.001, 0.0015, 0.002)),
    Method("Adan", tko.Adan, _settings(0.005, 0.01, 0.014, 0.02)),
    Method("MARS", tko.MARS, _settings(0.003, 0.005, 0.007, 0.01)),
    Method("CAME", tko.CAME, _settings(0.0005, 0.001, 0.002, 0.004, warm=0.2)),
    Method("AdEMAMix", tko.AdEMAMix, _settings(0.003, 0.005, 0.007, 0.01)),
    Method("ADOPT", tko.ADOPT, _settings(0.003, 0.005, 0.007, 0.01)),
)


def made(method: Method, setting: Setting, task: Task, steps: int) -> Any:
    """Returns a new optimizer.

    Args:
      method: which one.
      setting: what to make it with.
      task: what it is to train.
      steps: the steps of the run, which its schedule follows.
    """
    warm = max(1, round(setting.warm * steps))
    arguments = dict(setting.options)
    rate: Any = setting.rate
    if method.scheduled:
        rate = tko.schedules.Warmup(tko.schedules.CosineDecay(rate, steps - warm), warm)
    else:
        arguments["warmup_steps"] = warm
    optimizer = method.make(rate, weight_decay=task.decay, **arguments)
    if task.decay:
        optimizer.exclude_from_weight_decay(var_names=list(task.undecayed))
    return optimizer


class Trials:
    """Runs of one task, each made once.

    Args:
      task: what is trained.
      path: a file of runs that were made before, to which those that are made are added; or
        `None`.
    """

    def __init__(self, task: Task, path: str | None = None):
        self._task = task
        self._path = path
        self._found: dict[tuple, Run] = {}
        if path and pathlib.Path(path).exists():
            self._found = _read(path)

    def run(self, method: Method, setting: Setting, seed: int = 1, share: float = 1.0) -> Run:
        """Returns a run.

        Args:
          method: which optimizer.
          setting: what it is made with.
          seed: of the run.
          share: its length, as a share of the task's steps.
        """
        steps = round(share * self._task.steps)
        key = (self._task.name, method.name, str(setting), seed, steps)
        if key not in self._found:
            optimizer = made(method, setting, self._task, steps)
            found = run(self._task, optimizer, steps, seed, shows=method.shows)
            self._found[key] = found
            if self._path:
                with open(self._path, "a", encoding="utf-8") as file:
                    file.write(json.dumps([key, found.at, found.losses]) + "\n")
            print(f"  {self._task.name}: {method.name}, {setting}, seed {seed}, {steps} steps:"
                  f" {found.final:.4g}", flush=True)  # fmt: skip
        return self._found[key]

    def best(self, method: Method) -> Setting:
        """Returns the setting with which a method's first seed ends lowest."""
        return min(method.settings, key=lambda setting: self.run(method, setting).final)

    def tuned(self) -> tuple[Method, Method]:
        """Returns the two AdamW, each with its best setting alone."""
        plain = Method(PLAIN, tko.AdamW, _settings(*_RATES, **_ADAMW))
        best = self.best(plain)
        others = [
            dataclasses.replace(best, options=_ADAMW | {"beta_2": beta_2, **clip})
            for beta_2 in (0.95, 0.99, 0.999)
            for clip in ({}, {"global_clipnorm": 1.0})
        ]
        best = self.best(dataclasses.replace(plain, settings=(best, *others)))
        further = [
            Setting(best.rate * factor, warm, {**best.options, "beta_1": beta_1})
            for beta_1, warm in itertools.product((0.6, 0.8), (0.2, 0.4))
            for factor in (1.0, 1.4)
        ]
        tuned = Method(TUNED, tko.AdamW, (best, *further))
        return (
            dataclasses.replace(plain, settings=(best,)),
            dataclasses.replace(tuned, settings=(self.best(tuned),)),
        )


def _read(path: str) -> dict[tuple, Run]:
    """Returns the runs in a file.

    Raises:
      ValueError: a line of it is no run.
    """
    found = {}
    for number, line in enumerate(pathlib.Path(path).read_text("utf-8").splitlines(), 1):
        try:
            key, at, losses = json.loads(line)
            found[tuple(key)] = Run(tuple(map(int, at)), tuple(map(float, losses)))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"--tasks_runs: line {number} of {path} is no run ({error}). Remove the line, "
                "or name another file."
            ) from error
    return found


def _tasks(quick: bool) -> Iterator[Task]:
    long, middle, short = (24, 24, 12) if quick else (600, 2000, 60)
    text, digits = task_data.text(), task_data.digits()
    undecayed = ("bias", "gamma", "beta", "embeddings")
    yield Task("text", text, task_data.text_model, long, 16, 0.1, undecayed)
    model = task_data.digits_model
    yield Task("digits", digits, model, short, 64, 0.0, (), second_passes=True)
    yield Task(
        "poisson",
        task_data.poisson(),
        task_data.poisson_model,
        middle,
        None,
        0.0,
        (),
        loss=task_data.residual,
        error=task_data.distance,
        told="relative error",
    )


def tasks(settings: Settings, peers: Peers) -> Iterator[Comparison]:
    """Trains with every method; yields the steps and seconds to the two targets."""
    curves: dict[str, tuple[Task, dict[str, list[Run]]]] = {}
    for task in _tasks(settings.tasks_quick):
        trials = Trials(task, settings.tasks_runs)
        baselines = trials.tuned()
        methods = [*baselines, *METHODS]
        chosen = {method.name: (method, trials.best(method)) for method in methods}
        runs = {
            name: [trials.run(method, setting, seed) for seed in _SEEDS]
            for name, (method, setting) in chosen.items()
        }
        curves[task.name] = task, runs
        yield _finals(task, chosen, runs)
        seconds = _step_seconds(task, chosen, settings.steps)
        yield seconds
        for baseline in baselines:
            target = mean(runs[baseline.name]).final
            yield from _to(task, target, baseline.name, runs, seconds)
            yield _whole(task, target, baseline.name, chosen, trials)
        yield from _besides(task, baselines[0].settings[0], settings.tasks_quick)
    if settings.curves:
        draw(curves, settings.curves)
        print(f"Wrote {settings.curves}")


def _besides(task: Task, setting: Setting, quick: bool) -> Iterator[Comparison]:
    """Yields what is measured of one task alone, with the AdamW that was tuned as usual."""
    make = functools.partial(made, Method(PLAIN, tko.AdamW, ()), setting, task)
    if task.batch is None:
        yield from task_extras.finished(task, make, PLAIN, 20 if quick else 1000)
    elif task.second_passes:
        yield from task_extras.second_passes(task, make, PLAIN)


def _finals(
    task: Task, chosen: Mapping[str, tuple[Method, Setting]], runs: Mapping[str, list[Run]]
) -> Comparison:
    """Returns the losses at the end."""
    told = "; ".join(f"{name}: {setting}" for name, (_, setting) in chosen.items())
    return Comparison(
        suite="tasks",
        case=f"{task.name}: {task.told} after {task.steps} steps, seeds {_SEEDS}",
        figures={n: Figures(tuple(one.final for one in found)) for n, found in runs.items()},
        unit="",
        note=told,
    )


def _step_seconds(
    task: Task, chosen: Mapping[str, tuple[Method, Setting]], rounds: int
) -> Comparison:
    """Returns the seconds of a step; the optimizers take turns."""
    count = _TURN if task.steps > _TURN else 1
    turns = {}
    for name, (method, setting) in chosen.items():
        training = Training(task, made(method, setting, task, task.steps), count, seed=1)
        turns[name] = timed(functools.partial(training.train, 0, count))
    _, parts = take_turns(turns, rounds)
    each = {
        name: Figures(tuple(value / count for value in figures.values))
        for name, figures in parts[STEP].items()
    }
    return Comparison("tasks", f"{task.name}: seconds a step, passes included", each)


def _to(
    task: Task, target: float, of: str, runs: Mapping[str, list[Run]], step: Comparison
) -> Iterator[Comparison]:
    """Yields the steps and the seconds at which the mean curves pass a target."""
    steps, seconds, absent = {}, {}, {}
    for name, found in runs.items():
        curve = mean(found)
        reached = curve.reaches(target)
        if reached is None:
            absent[name] = f"ends at {curve.final:.4g}, after {task.steps} steps"
            continue
        steps[name] = Figures((float(reached),))
        seconds[name] = Figures((reached * step.figures[name].median,))
    case = f"to {target:.4g}, the end of {of}, on the mean curve of {task.steps} steps"
    yield Comparison("tasks", f"{task.name}: steps {case}", steps, "", absent=absent)
    yield Comparison("tasks", f"{task.name}: seconds {case}", seconds, "s", absent=absent)


def _whole(
    task: Task,
    target: float,
    of: str,
    chosen: Mapping[str, tuple[Method, Setting]],
    trials: Trials,
) -> Comparison:
    """Returns the steps of the shortest whole run of the first seed that ends at a target."""
    figures, absent = {}, {}
    for name, (method, setting) in chosen.items():
        if not method.scheduled:
            absent[name] = "has no schedule: the curve above is that of every length"
            continue
        lengths = [share for share in _SHORTER if name != of] + [1.0]
        if trials.run(method, setting).final > target and name != of:
            absent[name] = f"a run of {task.steps} steps does not end there"
            continue
        shortest = next(
            share
            for share in lengths
            if share == 1.0 or trials.run(method, setting, share=share).final <= target
        )
        figures[name] = Figures((round(shortest * task.steps),))
    case = f"{task.name}: steps of the shortest run that ends at {target:.4g}, the end of {of}"
    return Comparison("tasks", case, figures, "", absent=absent)


def draw(curves: Mapping[str, tuple[Task, Mapping[str, list[Run]]]], path: str) -> None:
    """Writes a picture of the mean curves, a panel for each task.

    Args:
      curves: by the name of a task, the task and by method the runs of its best setting.
      path: the file; its ending decides the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7 * len(curves), 5), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (name, (task, runs)) in zip(panels, curves.items()):
        panel.set_title(name)
        for method, found in runs.items():
            curve = mean(found)
            panel.plot(curve.at, curve.losses, label=method, linewidth=1)
        panel.set_yscale("log")
        panel.set_xlabel("steps")
        panel.set_ylabel(f"{task.told}, mean of three seeds")
        panel.legend(fontsize=7)
    figure.savefig(path, bbox_inches="tight", dpi=110)
