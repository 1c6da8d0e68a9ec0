"""One optimizer step over a set of variables, written once for every context.

Called eagerly, the step is one call of one traced function. In a graph it adds
its operations to that graph. Its order: sum duplicate rows, unscale, norms, then
(where accumulation says so, under a `tf.cond`) one kernel per variable, the
constraints, and the count of iterations.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import distribution, formulas, loops, rows
from tf_keras_optim.engine.guard import Verdict, too_many_skips
from tf_keras_optim.engine.kernels import average_only
from tf_keras_optim.engine.late_rates import UntraceableError
from tf_keras_optim.engine.received import Received
from tf_keras_optim.engine.store import Tracked


class Step:
    """The update of one set of variables.

    Args:
      optimizer: the engine that the variables belong to.
      entries: the variables that get a gradient, in the order of the gradients.
      given: what is known about the gradients.
    """

    def __init__(self, optimizer: Any, entries: Sequence[Tracked], given: Received):
        self.optimizer = optimizer
        self.entries = list(entries)
        self.given = given
        self._function = tf.function(self._body, autograph=False, reduce_retracing=True)
        self._traced: dict[tuple, Any] = {}

    def run(self, gradients: list[Any], bad_elsewhere: tf.Tensor | None = None) -> None:
        """Applies gradients, already summed over replicas, one for each entry.

        Args:
          gradients: the gradients.
          bad_elsewhere: 0-d bool tensor: another replica found its gradients not finite.
        """
        if not tf.executing_eagerly():
            self.optimizer._traced_in_graph = True
            try:
                self._body(gradients, None, bad_elsewhere)
            except UntraceableError as error:
                raise TypeError(str(error)) from error
            return
        with tf.init_scope():  # outside any gradient tape
            while True:
                try:
                    self._call(gradients, self.optimizer._asked(), bad_elsewhere)
                    return
                except UntraceableError as error:
                    self.optimizer._ask_from_now_on(error.name)
                except tf.errors.InvalidArgumentError as error:
                    told = too_many_skips(error)
                    if told is None:
                        raise
                    raise told from None

    def _call(
        self,
        gradients: list[Any],
        asked: dict[str, tf.Tensor],
        bad_elsewhere: tf.Tensor | None,
    ) -> None:
        """Calls the traced step, dense ones without what `tf.function` does for each argument.

        With hundreds of variables that takes longer than the step itself.
        """
        if any(isinstance(gradient, tf.IndexedSlices) for gradient in gradients):
            self._function(gradients, asked, bad_elsewhere)
            return
        tensors = [*gradients, *(asked[name] for name in sorted(asked))]
        if bad_elsewhere is not None:
            tensors.append(bad_elsewhere)
        key = (*asked, *[(tensor._shape_tuple(), tensor.dtype) for tensor in tensors])
        found = self._traced.get(key)
        if found is None:
            traced = self._function.get_concrete_function(gradients, asked, bad_elsewhere)
            found = self._traced[key] = (traced, traced.captured_inputs)
        traced, captured = found
        traced._call_flat(tensors, captured)

    def _body(
        self,
        gradients: list[Any],
        asked: Mapping[str, tf.Tensor] | None,
        bad_elsewhere: tf.Tensor | None,
    ) -> None:
        for entry, gradient in zip(self.entries, gradients):
            _check_gradient(entry, gradient)
        self.optimizer.trace_count += 1
        self.optimizer._store.awaited.check(self.optimizer._title())
        checks = [
            check
            for entry, gradient in zip(self.entries, gradients)
            if isinstance(gradient, tf.IndexedSlices)
            for check in rows.check(entry, gradient)
        ]
        with tf.control_dependencies(checks):
            self._examine(gradients, asked, bad_elsewhere)

    def _examine(
        self,
        gradients: list[Any],
        asked: Mapping[str, tf.Tensor] | None,
        bad_elsewhere: tf.Tensor | None,
    ) -> None:
        """One call: counts it, unless the gradients are not finite and such steps skipped."""
        pairs = [(entry, self._taken(entry, g)) for entry, g in zip(self.entries, gradients)]
        guard = self.optimizer._guard
        if guard is None or not guard.active or self.given.examined:
            self._count(pairs, asked, None)
            return
        learned = [(entry, _given(entry, g)) for entry, g in pairs if not entry.overwrite]
        values = [gradient for _, gradient in learned]
        optimizer = self.optimizer
        clips = optimizer.clipnorm is not None or optimizer.global_clipnorm is not None
        accumulates = (optimizer.gradient_accumulation_steps or 1) > 1
        verdict = guard.examine(values, self.given.scaled, norms=clips and not accumulates)
        finite = verdict.finite
        if bad_elsewhere is not None:
            finite = tf.logical_and(finite, tf.logical_not(bad_elsewhere))

        def proceed() -> None:
            self._count(pairs, asked, verdict)
            guard.passed()

        def skip() -> None:
            guard.skip(values, [entry.path for entry, _ in learned], verdict.inverse)

        loops.choose(finite, proceed, skip)

    def _count(
        self,
        pairs: Sequence[tuple[Tracked, Any]],
        asked: Mapping[str, tf.Tensor] | None,
        verdict: Verdict | None,
    ) -> None:
        """One call with good gradients: updates or accumulates, and counts."""
        optimizer = self.optimizer
        iterations = distribution.local(optimizer._store.iterations)
        steps = optimizer.gradient_accumulation_steps or 1
        updates = optimizer._updates()
        if steps == 1:
            self._update(pairs, updates, asked, verdict)
        else:
            for entry, gradient in pairs:
                _accumulate(entry, gradient, verdict)
            due = tf.equal((iterations.read_value() + 1) % steps, 0)
            loops.choose(due, lambda: self._update(self._waiting(), updates, asked))
        iterations.assign_add(1)

    def _waiting(self) -> list[tuple[Tracked, tf.Tensor | None]]:
        """Returns the accumulated gradients; reduced ones if a reducer was given."""
        if self.optimizer.gradient_reducer is None:
            return [(entry, None) for entry in self.entries]
        accumulators = [distribution.local(entry.accumulator) for entry in self.entries]
        sums = self.optimizer._reduced([a.read_value() for a in accumulators])
        for accumulator in accumulators:
            accumulator.assign(tf.zeros_like(accumulator))
        return list(zip(self.entries, sums))

    def _taken(self, entry: Tracked, gradient: Any) -> Any:
        """Sums repeated rows; only a lazy update keeps them apart from the rest."""
        if not isinstance(gradient, tf.IndexedSlices):
            return gradient
        lazy = self.optimizer._is_lazy(entry) and not entry.overwrite
        if gradient.dtype.size < entry.dtype.size:
            gradient = tf.cast(gradient, entry.dtype)
        return (rows.summed if lazy else rows.dense)(gradient, entry.variable.shape[0])

    def _update(
        self,
        pairs: Sequence[tuple[Tracked, tf.Tensor | None]],
        updates: tf.Tensor,
        asked: Mapping[str, tf.Tensor] | None,
        verdict: Verdict | None = None,
    ) -> None:
        """One real update. A gradient of `None` stands for the accumulated one."""
        optimizer = self.optimizer
        learned = [(e, g) for e, g in pairs if not e.overwrite]
        for entry, gradient in pairs:
            if entry.overwrite:
                _overwrite(entry, gradient)
        scales = self._scales([_given(e, g) for e, g in learned], verdict)
        rate = optimizer._rate_of_step(updates, asked)
        averaging = self._averaging(updates)
        scalars: dict[tuple[tf.DType, float], Mapping[str, tf.Tensor]] = {}
        for (entry, gradient), scale in zip(learned, scales):
            names = optimizer._option_names(entry, self.given.scaled)
            kind = (entry.dtype, optimizer._rate_factor(entry))
            if kind not in scalars:
                own = rate if kind[1] == 1.0 else rate * tf.cast(kind[1], rate.dtype)
                scalars[kind] = optimizer._dynamic_scalars(entry.dtype, own, updates, asked)
            options = self._begun(averaging, entry, updates)
            if "scale" in names:
                options["scale"] = tf.cast(scale, entry.dtype)
            if "rounding" in names:
                options["rounding"] = optimizer._rounding(entry, updates)
            optimizer._execute(entry, gradient, scalars[kind], options)
        self._carry(scalars)
        self._average_others(learned, averaging, updates)
        for entry, _ in learned:
            _constrain(entry)

    def _carry(self, scalars: Mapping[Any, Mapping[str, tf.Tensor]]) -> None:
        """Keeps what the algorithm carries to the next step; once, not per variable."""
        for name, variable in self.optimizer._store.step_slots.items():
            for values in list(scalars.values())[:1]:
                distribution.local(variable).assign(tf.cast(values[name], variable.dtype))

    def _averaging(self, updates: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scalars of the moving average; after the first update it equals the weights."""
        optimizer = self.optimizer
        if not optimizer.use_ema:
            return {}
        momentum = tf.where(tf.equal(updates, 0), 0.0, optimizer.ema_momentum)
        options = {"ema_momentum": momentum}
        if optimizer.ema_overwrite_frequency:
            options["ema_overwrite"] = tf.equal(
                (updates + 1) % optimizer.ema_overwrite_frequency, 0
            )
        return options

    def _average_others(
        self,
        learned: Sequence[tuple[Tracked, Any]],
        averaging: Mapping[str, tf.Tensor],
        updates: tf.Tensor,
    ) -> None:
        """Averages go on for variables that got no gradient in this step.

        Their weights stay as they are, those of a layer that was frozen since, say.
        """
        if averaging:
            averaging = {"ema_momentum": averaging["ema_momentum"]}
            done = {id(entry) for entry, _ in learned}
            for entry in self.optimizer._store.tracked:
                if id(entry) not in done:
                    average_only(entry, self._begun(averaging, entry, updates))

    def _begun(
        self, averaging: Mapping[str, tf.Tensor], entry: Tracked, updates: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns the options of one variable's average, which may have no value yet."""
        options = dict(averaging)
        optimizer = self.optimizer
        calls = optimizer._store.awaited.calls_before(entry.average) if averaging else None
        if calls is not None:
            begins = tf.equal(updates, calls // (optimizer.gradient_accumulation_steps or 1))
            options["ema_momentum"] = tf.where(begins, 0.0, options["ema_momentum"])
        return options

    def _scales(
        self, gradients: list[tf.Tensor], verdict: Verdict | None
    ) -> list[tf.Tensor | None]:
        """Returns for each gradient the factor that unscales, averages and clips it."""
        optimizer = self.optimizer
        factor: Any = optimizer._fixed_factor()
        plain = None if factor == 1.0 else tf.constant(factor, tf.float64)
        if verdict is not None and verdict.inverse is not None:
            factor = plain = verdict.inverse * factor
        clips = optimizer.clipnorm is not None or optimizer.global_clipnorm is not None
        if not (clips and gradients):
            return [plain] * len(gradients)
        if verdict is not None:
            squares = verdict.squares
        else:
            squares = [loops.squared_norm(gradient) for gradient in gradients]
        if optimizer.clipnorm is not None:
            return [_clip_scale(square, factor, optimizer.clipnorm) for square in squares]
        widest = max((square.dtype for square in squares), key=lambda dtype: dtype.size)
        total = tf.add_n([tf.cast(square, widest) for square in squares])
        return [_clip_scale(total, factor, optimizer.global_clipnorm)] * len(gradients)


def _check_gradient(entry: Tracked, gradient: Any) -> None:
    """Refuses a gradient of another shape or of a dtype that is not real floating."""
    shape = gradient.shape
    if isinstance(gradient, tf.IndexedSlices) and shape.rank is None:
        shape = tf.TensorShape([None]).concatenate(gradient.values.shape[1:])
    if not shape.is_compatible_with(entry.variable.shape):
        raise ValueError(
            f"The gradient of variable {entry.path!r} has shape {shape}. "
            f"Expected the variable's shape {entry.variable.shape}: check the order of "
            "the (gradient, variable) pairs."
        )
    if not gradient.dtype.is_floating:
        raise ValueError(
            f"The gradient of variable {entry.path!r} has dtype {gradient.dtype.name}. "
            "Expected a floating-point dtype such as float32."
        )


def _clip_scale(squared: tf.Tensor, factor: Any, limit: float) -> tf.Tensor:
    """Factor on a raw gradient whose conditioned norm must stay within the limit."""
    if tf.is_tensor(factor):
        factor = tf.cast(factor, squared.dtype)
    return factor * formulas.clip_factor(factor * tf.sqrt(squared), limit)


def _given(entry: Tracked, gradient: Any) -> tf.Tensor:
    if isinstance(gradient, tf.IndexedSlices):
        return gradient.values  # each row once; the others are zero
    if gradient is not None:
        return gradient
    return distribution.local(entry.accumulator).read_value()


def _accumulate(entry: Tracked, gradient: tf.Tensor, verdict: Verdict | None) -> None:
    accumulator = distribution.local(entry.accumulator)
    gradient = tf.cast(gradient, accumulator.dtype)
    if verdict is not None and verdict.inverse is not None and not entry.overwrite:
        gradient *= tf.cast(verdict.inverse, gradient.dtype)
    if entry.overwrite:
        accumulator.assign(tf.maximum(accumulator.read_value(), gradient))
    else:
        accumulator.assign_add(gradient)


def _overwrite(entry: Tracked, gradient: tf.Tensor | None) -> None:
    """Gives a variable its "gradient" as its value (float8 scales and histories)."""
    variable = distribution.local(entry.variable)
    variable.assign(tf.cast(_given(entry, gradient), variable.dtype))
    if gradient is None:
        accumulator = distribution.local(entry.accumulator)
        accumulator.assign(tf.zeros_like(accumulator))


def _constrain(entry: Tracked) -> None:
    constraint = getattr(entry.public, "constraint", None)
    if constraint is not None:
        variable = distribution.local(entry.variable)
        variable.assign(tf.cast(constraint(variable.read_value()), variable.dtype))
