"""L-BFGS for a loss over all data at once, around TensorFlow Probability's."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.state.paths import path_of

_TITLE = "`minimize_lbfgs`"


@dataclasses.dataclass(frozen=True)
class LbfgsResult:
    """The result of a minimization by L-BFGS.

    Attributes:
      converged: whether one of the tolerances was met.
      failed: whether a line search found no lower loss, or no finite one. If neither
        `converged` nor `failed` is True, the iterations were used up.
      iterations: the number of iterations.
      evaluations: number of computations of loss and gradient.
      loss: the loss at the current values of the variables.
      gradient_norm: the largest absolute element of the gradient there.
      initial_loss: the loss at the start.
    """

    converged: bool
    failed: bool
    iterations: int
    evaluations: int
    loss: float
    gradient_norm: float
    initial_loss: float


_ARGUMENTS = {
    "max_iterations": Hyperparameter(1000, minimum=1),
    "memory": Hyperparameter(10, minimum=1),
    "tolerance": Hyperparameter(1e-8, minimum=0.0),
    "loss_tolerance": Hyperparameter(0.0, minimum=0.0),
    "step_tolerance": Hyperparameter(0.0, minimum=0.0),
    "max_line_search_iterations": Hyperparameter(50, minimum=1),
    "progress_every": Hyperparameter(10, minimum=1),
}
for _name, _argument in _ARGUMENTS.items():
    _argument.name = _name


def minimize_lbfgs(
    loss_fn: Callable[[], Any],
    variables: Sequence[Any],
    *,
    max_iterations: int = 1000,
    memory: int = 10,
    tolerance: float = 1e-8,
    loss_tolerance: float = 0.0,
    step_tolerance: float = 0.0,
    max_line_search_iterations: int = 50,
    progress: Callable[[LbfgsResult], Any] | None = None,
    progress_every: int = 10,
) -> LbfgsResult:
    """Minimizes a loss that is the same at every call: all data, no dropout, no noise.

    `w <- w - step * H * g`, where H follows from the last differences of w and g, and a line
    search (Hager and Zhang) finds the step. Vectors and sums are float64. Loss and gradient
    have the dtype of the variables, so make the model float64 where the last digits count. For
    networks that solve differential equations it is common to take some hundred updates of
    Adam first. Each call traces the search before its first iteration, which takes seconds.

    Args:
      loss_fn: function without arguments that returns the loss, a 0-d tensor. It is traced.
      variables: the variables to change, of any floating dtype and shape.
      max_iterations: largest number of iterations.
      memory: number of differences that are kept; each takes two vectors.
      tolerance: the search has converged when no element of the gradient is larger.
      loss_tolerance: it has converged when an iteration changes the loss relatively by no
        more; 0 turns this off.
      step_tolerance: likewise for the change of the variables.
      max_line_search_iterations: largest number of iterations of a line search.
      progress: function that is called with the result so far, such as `print`; the variables
        then have their values so far.
      progress_every: number of iterations between two such calls; the last one is at the end.

    Returns:
      A `LbfgsResult`; check `failed` and `converged`. If no lower loss was found, or an error
      is raised, the variables have their initial values.

    Raises:
      ImportError: TensorFlow Probability is not installed.
      RuntimeError: it is called inside a `tf.function` or with several replicas.
      TypeError: a variable has no floating dtype.
      ValueError: there is no variable, or one is given twice or has a constraint; the loss
        depends on none, is not 0-d, or is not finite at the start; an argument is out of range.

    Example:
      >>> w = tf.Variable([3.0, -1.0])
      >>> result = minimize_lbfgs(lambda: tf.reduce_sum(tf.square(w - [1.0, 2.0])), [w])
      >>> result.converged, w.numpy()
      (True, array([1., 2.], dtype=float32))

    Source: Liu & Nocedal, "On the limited memory BFGS method", Math. Programming 1989.
    """
    given = locals()
    checked = {name: a.check(given[name], _TITLE) for name, a in _ARGUMENTS.items()}
    minimize, flat = _implementation(), _Flat(variables)
    return _run(minimize, flat, _evaluation(loss_fn, flat), progress, checked)


def _implementation() -> Callable[..., Any]:
    """Returns TensorFlow Probability's function.

    Raises:
      ImportError: it is not installed.
      RuntimeError: this is no place for it.
    """
    if not tf.executing_eagerly() or tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise RuntimeError(
            f"{_TITLE} assigns variables and returns numbers: call it outside of `tf.function` "
            "and outside of the scope of a strategy with several replicas."
        )
    try:
        import tensorflow_probability as tfp
    except ImportError as error:
        raise ImportError(
            f"{_TITLE} needs TensorFlow Probability: pip install 'tf_keras_optim[probability]'."
        ) from error
    found: Callable[..., Any] = tfp.optimizer.lbfgs_minimize
    return found


class _Flat:
    """Variables as one float64 vector.

    Args:
      variables: the variables.

    Raises:
      TypeError: one has no floating dtype, or is none.
      ValueError: there are none, one stands twice, or has a constraint.
    """

    def __init__(self, variables: Sequence[Any]):
        if isinstance(variables, tf.Variable) or not isinstance(variables, Sequence):
            raise TypeError(
                f"{_TITLE}: argument `variables` must be a list of variables. Received: "
                f"{variables!r}."
            )
        self.natives: list[tf.Variable] = []
        for variable in variables:
            native = variable if isinstance(variable, tf.Variable) else variable.value
            name = path_of(variable)
            if not native.dtype.is_floating:
                raise TypeError(
                    f"{_TITLE}: variable {name!r} is {native.dtype.name}; it must have a "
                    "floating dtype. Leave it out."
                )
            if any(native is other for other in self.natives):
                raise ValueError(f"{_TITLE}: variable {name!r} was given twice.")
            if getattr(variable, "constraint", None) is not None:
                raise ValueError(
                    f"{_TITLE}: variable {name!r} has a constraint, which L-BFGS cannot "
                    "respect. Leave it out, or write the constraint into the loss."
                )
            self.natives.append(native)
        if not self.natives:
            raise ValueError(f"{_TITLE}: argument `variables` is empty.")
        self._sizes = [int(native.shape.num_elements()) for native in self.natives]
        self._before = [native.read_value() for native in self.natives]

    def vector(self) -> tf.Tensor:
        """Returns the values as a vector."""
        return self.joined(self._before)

    def joined(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns tensors of the variables' shapes as a vector."""
        return tf.concat([tf.reshape(tf.cast(t, tf.float64), [-1]) for t in tensors], 0)

    def assign(self, vector: tf.Tensor) -> None:
        """Gives the variables the values of a vector."""
        for native, part in zip(self.natives, tf.split(vector, self._sizes)):
            native.assign(tf.cast(tf.reshape(part, native.shape), native.dtype))

    def restore(self) -> None:
        """Gives the variables the values that they had at the start."""
        for native, value in zip(self.natives, self._before):
            native.assign(value)


def _evaluation(loss_fn: Callable[[], Any], flat: _Flat) -> Any:
    """Returns a function from a vector to loss and gradient, traced once.

    Raises, when it is traced:
      ValueError: the loss is not 0-d, or has nothing to do with any variable.
    """

    @tf.function(autograph=False)
    def evaluate(vector: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        flat.assign(vector)
        with tf.GradientTape() as tape:
            for native in flat.natives:
                tape.watch(native)
            loss = tf.convert_to_tensor(loss_fn())
        if loss.shape.rank != 0:
            raise ValueError(
                f"{_TITLE}: `loss_fn` must return a 0-d tensor. Received: shape {loss.shape}. "
                "Sum it, or take its mean."
            )
        gradients = tape.gradient(loss, flat.natives)
        if all(gradient is None for gradient in gradients):
            raise ValueError(
                f"{_TITLE}: the loss has no gradient for any of the variables. Compute it from "
                "them in `loss_fn`, without NumPy."
            )
        dense = [
            tf.zeros(native.shape) if gradient is None else tf.convert_to_tensor(gradient)
            for gradient, native in zip(gradients, flat.natives)
        ]
        return tf.cast(loss, tf.float64), flat.joined(dense)

    return evaluate


def _run(
    minimize: Callable[..., Any],
    flat: _Flat,
    evaluate: Any,
    progress: Callable[[LbfgsResult], Any] | None,
    arguments: dict[str, Any],
) -> LbfgsResult:
    """Runs L-BFGS; where that raises, the variables have the values of the start."""
    found = None
    try:
        found = _searched(minimize, flat, evaluate, progress, arguments)
    finally:
        if found is None:
            flat.restore()
    return found


def _searched(
    minimize: Callable[..., Any],
    flat: _Flat,
    evaluate: Any,
    progress: Callable[[LbfgsResult], Any] | None,
    arguments: dict[str, Any],
) -> LbfgsResult:
    """Runs L-BFGS, in parts where progress is told; the variables end where it does.

    Raises:
      ValueError: the loss or its gradient is not finite at the start.
    """
    start = flat.vector()
    loss, gradient = evaluate(start)
    initial = float(loss)
    if not (math.isfinite(initial) and bool(tf.reduce_all(tf.math.is_finite(gradient)))):
        raise ValueError(
            f"{_TITLE}: at the start the loss is {initial}, and loss and gradient must be "
            "finite. Begin elsewhere, e.g. after some updates of Adam."
        )

    def search(state: Any, limit: Any, position: Any = None) -> Any:
        return minimize(
            evaluate,
            initial_position=position,
            previous_optimizer_results=state,
            num_correction_pairs=arguments["memory"],
            tolerance=arguments["tolerance"],
            x_tolerance=arguments["step_tolerance"],
            f_relative_tolerance=arguments["loss_tolerance"],
            max_iterations=limit,
            max_line_search_iterations=arguments["max_line_search_iterations"],
        )

    # Tracing the search takes seconds, so it is traced once, for a state that there is.
    advance = tf.function(search, autograph=False)
    most = arguments["max_iterations"]
    every = most if progress is None else min(arguments["progress_every"], most)
    state = advance(search(None, 0, start), tf.constant(every))
    norm = float(tf.reduce_max(tf.abs(gradient)))
    while True:
        found = _result(state, initial)
        flat.assign(state.position)
        if not found.loss <= initial:  # or it is not finite
            flat.restore()
            found = dataclasses.replace(
                found, converged=False, failed=True, loss=initial, gradient_norm=norm
            )
        if progress is not None:
            progress(found)
        if found.converged or found.failed or found.iterations >= most:
            return found
        state = advance(state, tf.constant(min(found.iterations + every, most)))


def _result(state: Any, initial: float) -> LbfgsResult:
    """Returns what a state of the search says; minus infinity is no loss that can be told."""
    is_finite = tf.reduce_all(tf.math.is_finite(state.position))
    loss = float(state.objective_value) if bool(is_finite) else math.nan
    return LbfgsResult(
        converged=bool(state.converged),
        failed=bool(state.failed),
        iterations=int(state.num_iterations),
        evaluations=int(state.num_objective_evaluations) + 1,
        loss=loss if math.isfinite(loss) else math.nan,
        gradient_norm=float(tf.reduce_max(tf.abs(state.objective_gradient))),
        initial_loss=initial,
    )
