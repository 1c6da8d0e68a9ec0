"""What Shampoo is given."""

from typing import Any

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, decay
from tf_keras_optim.engine.patterns import IntegersByPattern, Patterns
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.matrix_variables import MatrixRules


def _own(default: Any, doc: str, **more: Any) -> Hyperparameter:
    return Hyperparameter(default, keyword_only=True, doc=doc, **more)


class ShampooArguments(Optimizer):
    """The declarations of Shampoo."""

    learning_rate = LearningRate(0.001)
    beta_1 = decay(0.9, "decay of the mean of gradients")
    beta_2 = decay(0.999, "decay of the means of squares and products of gradients")
    epsilon = Hyperparameter(
        1e-6,
        minimum=0.0,
        doc="what is added to a factor before its root, as a share of its largest eigenvalue",
    )
    every = _own(20, "after how many updates the roots are computed anew", minimum=1)
    start = _own(
        None,
        "the update, from 1, after which they are computed first, the next multiple of "
        "`every`; or `None` for `every`",
        kind=int,
        minimum=1,
    )
    block = _own(
        1024,
        "the largest side of the blocks that a matrix is cut into",
        minimum=1,
        until_built=True,
    )
    grafting = _own(
        "adam",
        'whose length a step has: "adam", "rmsprop" (without a correction of the second '
        'moment), "sgd", or `None` for its own.',
        choices=("adam", "rmsprop", "sgd"),
        optional=True,
        until_built=True,
    )
    grafting_epsilon = _own(
        1e-8, "small constant for numerical stability, of that step", minimum=0.0
    )
    root = _own(4, "which root of the factors: 4, or 2", choices=(4, 2))
    nesterov = _own(False, "look ahead along the mean")
    adam_for = Patterns(
        optional=True,
        until_built=True,
        doc="regular expressions, searched in a variable's path: those variables are no "
        "matrices.",
    )
    input_axes = IntegersByPattern(
        until_built=True,
        doc="dict from regular expressions, searched in a variable's path, to the number of "
        "axes that are inputs, the rows of the matrix: the first n, after those of "
        "`batch_axes`, or, where it is negative, the last n. It counts more than names do.",
    )
    batch_axes = IntegersByPattern(
        until_built=True,
        minimum=1,
        doc="dict as `input_axes`, to the number of leading axes that number matrices, as in "
        "banks of experts.",
    )
    refresh_spread = _own(
        False,
        "compute the roots of different variables after different updates, from the second "
        "time on, so that no step takes much longer than the others",
    )

    @property
    def _matrix_rules(self) -> MatrixRules:
        """Which variables are matrices."""
        name = type(self).__name__
        return MatrixRules(name, self.adam_for, self.input_axes, self.batch_axes)

    @property
    def refresh_every(self) -> int:
        """After how many updates the roots are computed anew."""
        return self.every

    @property
    def refresh_first(self) -> int:
        """The update after which they are computed first."""
        return -(-(self.start or self.every) // self.every) * self.every
