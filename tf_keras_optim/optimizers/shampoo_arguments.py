"""What Shampoo is given."""

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, by_name, decay
from tf_keras_optim.engine.patterns import Patterns
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.matrix_variables import MatrixRules, batch_axes, input_axes


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
    every = by_name(20, "after how many updates the roots are computed anew", minimum=1)
    start = by_name(
        None,
        "the update, from 1, after which they are computed first, the next multiple of "
        "`every`; or `None` for `every`",
        kind=int,
        minimum=1,
    )
    block = by_name(
        1024,
        "the largest side of the blocks that a matrix is cut into",
        minimum=1,
        until_built=True,
    )
    grafting = by_name(
        "adam",
        'whose length a step has: "adam", "rmsprop" (without a correction of the second '
        'moment), "sgd", or `None` for its own.',
        choices=("adam", "rmsprop", "sgd"),
        optional=True,
        until_built=True,
    )
    grafting_epsilon = by_name(
        1e-8, "small constant for numerical stability, of that step", minimum=0.0
    )
    root = by_name(4, "which root of the factors: 4, or 2", choices=(4, 2))
    nesterov = by_name(False, "look ahead along the mean")
    adam_for = Patterns(
        optional=True,
        until_built=True,
        doc="regular expressions, searched in a variable's path: those variables are no "
        "matrices.",
    )
    input_axes = input_axes()
    batch_axes = batch_axes()
    refresh_spread = by_name(
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
