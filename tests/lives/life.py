"""What a life is, and the line of text that says it."""

import dataclasses

DEFAULTS_NOTE = "a field that the line does not name has its default"


@dataclasses.dataclass(frozen=True)
class Life:
    """One life of an optimizer. The first value of each field is the plainest.

    Attributes:
      model: functional, sequential, unbuilt (Sequential that `fit` builds), subclass, nested,
        shared (a layer used twice), embedding, equal (three layers alike), twins (a layer with
        two weights of one name).
      optimizer: name of the class.
      variant: which further arguments of the class (settings.VARIANTS).
      options: arguments of every optimizer (settings.OPTIONS).
      rate: constant, or a schedule (settings.SCHEDULES).
      policy: Keras' dtype policy.
      wrapper: none, scale (LossScaleOptimizer here), keras (what `compile` wraps by itself).
      strategy: none, default (its scope), onedevice, mirrored and central (two replicas),
        multiworker (one worker).
      loop: fit, fit_jit, fit_nojit, fit_eager, batch (`train_on_batch`), own (eager loop),
        own_function, own_xla, minimize.
      event: what happens after the first part (models.EVENTS).
      missing: none, is_none (some gradients are `None`), unlisted (their variables are not
        given at all); own loops.
      bad: one batch of each epoch has a target that is NaN.
      callback: none, scheduler, plateau, swap (SwapEMAWeights).
      epochs: of the three parts: before the event, up to saving, after loading.
      steps: batches of an epoch.
      save: how (files.FORMATS).
      where: same or other process.
      shift: further layers made before loading, which move all automatic names.
      built: whether the optimizer that loads is built before.
      load_policy: same, or the global dtype policy where it is loaded.
      seed: of weights and data.
    """

    model: str = "functional"
    optimizer: str = "SGD"
    variant: str = "plain"
    options: tuple[str, ...] = ()
    rate: str = "constant"
    policy: str = "float32"
    wrapper: str = "none"
    strategy: str = "none"
    loop: str = "fit_nojit"
    event: str = "none"
    missing: str = "none"
    bad: bool = False
    callback: str = "none"
    epochs: tuple[int, int, int] = (0, 1, 1)
    steps: int = 2
    save: str = "none"
    where: str = "same"
    shift: int = 0
    built: bool = False
    load_policy: str = "same"
    seed: int = 0

    @property
    def line(self) -> str:
        """The text that says this life: what differs from the plainest one."""
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                parts.append(f"{field.name}={_text(value)}")
        return " ".join(parts) or "model=functional"

    @classmethod
    def parse(cls, line: str) -> "Life":
        """Reads such a text."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        given = {}
        for part in line.split():
            name, _, text = part.partition("=")
            if name not in fields:
                raise ValueError(f"A life has no {name!r}. It has: {', '.join(fields)}.")
            given[name] = _value(text, fields[name].default)
        return cls(**given)


def _text(value):
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(int(value)) if isinstance(value, bool) else str(value)


def _value(text, default):
    if isinstance(default, bool):
        return text not in ("0", "False")
    if isinstance(default, int):
        return int(text)
    if isinstance(default, tuple):
        kind = int if default else str
        return tuple(kind(part) for part in text.split(",") if part)
    return text
