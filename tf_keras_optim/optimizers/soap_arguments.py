"""What Soap is given."""

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, by_name, decay
from tf_keras_optim.engine.patterns import Patterns
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.matrix_variables import MatrixRules, batch_axes, input_axes


class SoapArguments(Optimizer):
    """The declarations of Soap."""

    learning_rate = LearningRate(0.003)
    beta_1 = decay(0.95, "decay of the first moment")
    beta_2 = decay(0.95, "decay of the second moment")
    epsilon = Hyperparameter(1e-8, minimum=0.0, doc="small constant for numerical stability")
    weight_decay = Hyperparameter(
        0.01,
        minimum=0.0,
        optional=True,
        schedulable=True,
        doc="fraction of a weight that a step at rate 1 takes away before the update, a "
        "schedule of it, or `None`; 0.01 by default.",
    )
    shampoo_beta = by_name(
        None,
        "decay of what the bases are computed from, or `None` for `beta_2`",
        kind=float,
        minimum=0.0,
        below=1.0,
    )
    every = by_name(10, "after how many updates the bases are computed anew", minimum=1)
    largest_side = by_name(
        2048, "the longest side that has a basis", minimum=1, until_built=True
    )
    sides = by_name(
        "both",
        'which sides of a matrix have a basis: "both", or "shorter": the shorter one alone, '
        "the rows of a square one.",
        choices=("both", "shorter"),
        until_built=True,
    )
    start = by_name(
        "adam",
        'how it begins: "adam", with the axes as bases for `every` updates; or "skip", as '
        "published: the first update moves and decays nothing, and gives the first bases.",
        choices=("adam", "skip"),
    )
    adam_for = Patterns(
        optional=True,
        until_built=True,
        doc="regular expressions, searched in a variable's path: AdamW moves those variables.",
    )
    input_axes = input_axes()
    batch_axes = batch_axes()
    refresh_spread = by_name(
        False,
        "compute the bases of different variables after different updates, from the second "
        "time on, so that no step takes much longer than the others",
    )

    @property
    def _matrix_rules(self) -> MatrixRules:
        """Which variables are matrices."""
        name = type(self).__name__
        return MatrixRules(name, self.adam_for, self.input_axes, self.batch_axes)

    @property
    def refresh_every(self) -> int:
        """After how many updates the bases are computed anew."""
        return self.every

    @property
    def refresh_first(self) -> int:
        """The update after which they are computed first."""
        return 1 if self.start == "skip" else self.every
