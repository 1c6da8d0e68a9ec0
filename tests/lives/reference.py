"""The same life in float64: gradients by TensorFlow, everything after them in NumPy.

The gradients are those of Keras' model at the rounded weights, in its own precision. What the
optimizer makes of them is computed here, from the oracles and from what the documentation says.
"""

import numpy as np
import tensorflow as tf

from tests import oracles
from tests.lives import models, settings, training

keras = tf.keras
_HALF = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16")


def reason_against(life):
    """Why a life has no float64 run beside it; `None` if it has."""
    narrow = {"slots_bfloat16", "slots_int8", "rounding", "no_master"} & set(life.options)
    if narrow:
        return f"{narrow.pop()} rounds, some of it by chance"
    if life.optimizer in ("Lion",) and life.policy in _HALF:
        return "a sign may change with the last bit of a gradient of 16 bits"
    if life.optimizer in ("Muon", "Shampoo", "Soap"):
        return "which variables it takes for matrices depends on the whole model"
    if life.optimizer == "Prodigy":
        return "its d is that of all variables together, with the rounding of all of them"
    if life.wrapper == "keras":
        return "Keras' own scale starts at 2**15, where gradients of 16 bits overflow"
    return None


class _Tracked:
    """A variable: its weight in float64, slots, average, and what is accumulated."""

    def __init__(self, variable, decays):
        self.variable, self.decays, self.factor = variable, decays, 1.0
        self.slots, self.history = {}, []
        self.average = self.gathered = self.rows = self.slow = None
        self.read()

    def read(self):
        """Takes the variable's value over."""
        self.weight = np.asarray(self.variable.numpy()).astype("d")

    def write(self):
        """Gives the variable its value, rounded."""
        self.variable.assign(tf.cast(self.weight, self.variable.dtype))


class Reference:
    """Trains a model of its own. One replica, whatever the life has.

    Args:
      life: the life.
      model: a model, built.
    """

    def __init__(self, life, model):
        self.life, self.model = life, model
        self._values = settings.arguments(life)
        self._step, self._defaults = settings.algorithm(life)
        self._tracked = {}
        self.updates = self._waiting = 0
        self._calls = settings.calls(life, False)
        self._factor = 1.0
        self._x, self._y = models.data(life)

    @property
    def rate(self):
        """The learning rate of the next update."""
        return settings.scheduled_rate(self.life, self.updates) * self._factor

    def set_rate(self, value):
        """Sets the rate; where it follows a schedule, by a factor on that."""
        now = settings.scheduled_rate(self.life, self.updates)
        if now:
            self._factor = value / now

    def train(self, begin, end):
        """Trains from one epoch to another, as `Trainer.train`."""
        if begin == end:
            return
        life = self.life
        for epoch in range(begin, end):
            if life.callback == "scheduler":
                self.set_rate(training.scheduled(epoch, self.rate))
            for batch in range(life.steps):
                part = slice(batch * models.BATCH, (batch + 1) * models.BATCH)
                self._apply(*self._gradients(self._x[part], self._y[part], batch))
            if life.callback == "plateau" and epoch > begin:
                self.set_rate(self.rate * training.PLATEAU)
        if training.is_fit(life) and self._values.get("use_ema"):
            for tracked in self._known(self.model.trainable_variables):
                if tracked.average is not None:
                    tracked.weight = tracked.average
                    tracked.write()

    def happen(self):
        """What happens to model and optimizer after the first part."""
        models.happen(self.life, self.model)
        if self.life.event == "accumulation":
            self._calls = settings.calls(self.life, True)
        if self.life.event == "weights":
            for tracked in self._tracked.values():
                tracked.read()

    def happen_after_saving(self):
        """What happens after saving."""
        models.happen_after_saving(self.life, self.model)
        self._calls = settings.calls(self.life, True)

    def weights(self):
        """Every weight of the model in float64, in Keras' order."""
        known = {id(t.variable): t.weight for t in self._tracked.values()}
        values = [np.asarray(v.numpy()).astype("d") for v in self.model.weights]
        return [known.get(id(v), value) for v, value in zip(self.model.weights, values)]

    def _gradients(self, x, y, batch):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            output = self.model(tf.constant(x), training=True)
            dtype = tf.float64 if output.dtype == tf.float64 else tf.float32
            loss = tf.reduce_mean(tf.square(tf.cast(y, dtype) - tf.cast(output, dtype)))
            scale = settings.SCALE["initial_scale"] if self.life.wrapper == "scale" else 1.0
            scaled = loss * scale
        found = []
        for i, gradient in enumerate(tape.gradient(scaled, variables)):
            if training.is_missing(self.life, i, batch):
                found.append((None, None))
                continue
            rows = None
            if isinstance(gradient, tf.IndexedSlices):
                rows = np.unique(gradient.indices.numpy())
                gradient = tf.convert_to_tensor(gradient)
            found.append((gradient.numpy().astype("d") / scale, rows))
        return variables, found

    def _known(self, variables):
        for variable in variables:
            if id(variable) not in self._tracked:
                path = getattr(variable, "path", variable.name)
                apart = settings.BIAS in path and {"exclude", "groups"} & {*self.life.options}
                new = self._tracked[id(variable)] = _Tracked(variable, not apart)
                if settings.BIAS in path and "groups" in self.life.options:
                    new.factor = 0.5
                if self.updates and self._values.get("use_ema"):
                    new.average = new.weight  # of a late one it starts from its weights
            yield self._tracked[id(variable)]

    def _apply(self, variables, gradients):
        """One call of `apply_gradients`."""
        if not all(np.isfinite(g).all() for g, _ in gradients if g is not None):
            return  # only lives that skip have such batches
        known = list(self._known(variables))
        self._waiting += 1
        for tracked, (gradient, rows) in zip(known, gradients):
            tracked.rows = rows
            if gradient is not None:
                before = 0.0 if tracked.gathered is None else tracked.gathered
                tracked.gathered = before + gradient / self._calls
        if self._waiting == self._calls:
            self._waiting = 0
            self._update(known)

    def _update(self, known):
        values = {n: settings.number(v, self.updates) for n, v in self._values.items()}
        gradients = [tracked.gathered for tracked in known]
        gradients = _clipped(gradients, values)
        for tracked, gradient in zip(known, gradients):
            rate = self.rate * tracked.factor
            chosen = {n: v for n, v in values.items() if n in self._defaults}
            decay = values.get("weight_decay", settings.default_decay(self.life))
            decay = (decay or 0.0) if tracked.decays else 0.0
            inside = values.get("decay_in_trust_ratio", self.life.optimizer in settings.IN_STEP)
            inside = inside and values.get("decoupled_weight_decay", True)
            if "weight_decay" in self._defaults:
                chosen["weight_decay"] = decay if inside else 0.0
            tracked.history.append(self._defaults | chosen | {"learning_rate": rate})
            tracked.gathered = None
            if gradient is None:
                if values.get("use_ema"):
                    self._average(tracked, values)
                continue
            before = tracked.weight, dict(tracked.slots), tracked.average
            if values.get("decoupled_weight_decay", True):
                if not inside:
                    tracked.weight = tracked.weight * (1 - rate * decay)
            else:
                gradient = gradient + decay * tracked.weight
            self._move(tracked, gradient)
            if values.get("lookahead_steps"):
                self._look_ahead(tracked, before[0], values)
            if values.get("use_ema"):
                self._average(tracked, values)
            if values.get("sparse") == "lazy" and tracked.rows is not None:
                _keep_others(tracked, before)
            tracked.write()
        self.updates += 1
        every = values.get("ema_overwrite_frequency")
        if every and self.updates % every == 0:
            # What got no gradient stays as it is, a frozen variable say.
            for tracked, gradient in zip(known, gradients):
                if gradient is not None:
                    tracked.weight = tracked.average
                    tracked.write()

    def _move(self, tracked, gradient):
        tracked.weight = self._step(tracked.weight, gradient, tracked.slots, tracked.history)

    def _look_ahead(self, tracked, start, values):
        slow = start if tracked.slow is None else tracked.slow
        if (self.updates + 1) % values["lookahead_steps"] == 0:
            slow = slow + values["lookahead_share"] * (tracked.weight - slow)
            tracked.weight = slow
        tracked.slow = slow

    def _average(self, tracked, values):
        held, now = (_held(updates, values) for updates in (self.updates, self.updates + 1))
        if tracked.average is None or held == 0:
            tracked.average = tracked.weight
        elif now > held:
            momentum = values.get("ema_momentum", 0.99)
            if values.get("averaging") == "equal":
                momentum = held / (held + 1)
            elif values.get("ema_warmup"):
                momentum = min(momentum, (1 + held) / (10 + held))
            tracked.average = momentum * tracked.average + (1 - momentum) * tracked.weight


def _held(updates, values):
    """How many weights an average holds after some number of updates."""
    start, period = values.get("averaging_start", 0), values.get("averaging_period", 1)
    return sum(u >= start and (u - start) % period == 0 for u in range(1, updates + 1))


def _clipped(gradients, values):
    if "clipvalue" in values:
        limit = values["clipvalue"]
        return [None if g is None else np.clip(g, -limit, limit) for g in gradients]

    def shortened(gradient, norm, limit):
        return None if gradient is None else gradient * (limit / max(norm, limit))

    norms = [0.0 if g is None else np.sqrt(np.sum(g**2)) for g in gradients]
    if "clipnorm" in values:
        return [shortened(g, n, values["clipnorm"]) for g, n in zip(gradients, norms)]
    if "global_clipnorm" in values:
        norm = np.sqrt(np.sum(np.square(norms)))
        return [shortened(g, norm, values["global_clipnorm"]) for g in gradients]
    return gradients


def _keep_others(tracked, before):
    """Puts the rows that a sparse gradient does not name back to what they were."""
    weight, slots, average = before
    others = np.setdiff1d(np.arange(len(weight)), tracked.rows)
    tracked.weight[others] = weight[others]
    start = tracked.history[-1].get("initial_accumulator_value", 0.0)
    starts = {"total": start, "n": start, "seen": oracles.NONE_YET}
    for name, value in tracked.slots.items():
        if np.shape(value) == weight.shape:
            # As if from the start: an algorithm's slots begin at zero, or at the value given.
            first = np.full_like(weight, starts.get(name, 0.0))
            value[others] = slots.get(name, first)[others]
    if tracked.average is not None and average is not None:
        tracked.average[others] = average[others]
