"""What Muon is given: Keras' arguments in Keras' order, then those that Keras has not."""

import math

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, by_name, decay
from tf_keras_optim.engine.patterns import Patterns
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.matrix_variables import MatrixRules, batch_axes, input_axes
from tf_keras_optim.optimizers.muon_polynomials import Polynomial


class MuonArguments(Optimizer):
    """The declarations of Muon."""

    learning_rate = LearningRate(0.001)
    adam_beta_1 = decay(0.9, "AdamW's decay of the first moment")
    adam_beta_2 = decay(0.999, "AdamW's decay of the second moment")
    adam_weight_decay = Hyperparameter(
        0.004,
        minimum=0.0,
        optional=True,
        schedulable=True,
        doc="as `weight_decay`, for the variables that AdamW moves.",
    )
    epsilon = Hyperparameter(
        1e-7, minimum=0.0, doc="AdamW's small constant for numerical stability"
    )
    weight_decay = Hyperparameter(
        0.004,
        minimum=0.0,
        optional=True,
        schedulable=True,
        doc="fraction of a matrix that a step at rate 1 takes away before the update, a "
        "schedule of it, or `None`; 0.004 by default.",
    )
    exclude_layers = Patterns(
        optional=True,
        until_built=True,
        doc="regular expressions, searched in a variable's path: AdamW moves those variables.",
    )
    exclude_embeddings = by_name(True, "AdamW moves the tables of embeddings", until_built=True)
    muon_a = by_name(3.4445, "first coefficient of the polynomial")
    muon_b = by_name(-4.775, "second coefficient")
    muon_c = by_name(2.0315, "third coefficient")
    adam_lr_ratio = by_name(
        1.0, "factor on AdamW's learning rate, not on its decay", minimum=0.0
    )
    momentum = by_name(
        0.95, "decay of the sum of gradients", minimum=0.0, below=1.0, schedulable=True
    )
    ns_steps = by_name(5, "how often the polynomial is applied", minimum=0)
    nesterov = by_name(True, "look ahead along the momentum")
    rms_rate = by_name(
        0.2,
        "root mean square of an element of a step at rate 1, or `None` for no factor at all.",
        optional=True,
        above=0.0,
    )
    matrices = by_name(
        "all",
        'which variables are matrices: "all" with two axes or more, as named above, or '
        '"rank_2": Keras\' choice, those of two axes, biases too, whose path has no '
        '"embedding" in it.',
        choices=("all", "rank_2"),
        until_built=True,
    )
    output = by_name(
        "last",
        'AdamW moves the last kernel of the model ("last"), the head usually, or not (None): '
        "for models without a head, or with one that shares its weights with embeddings.",
        choices=("last",),
        optional=True,
        until_built=True,
    )
    polynomial = Polynomial(
        doc='in place of `muon_a` to `muon_c` and `ns_steps`: "jordan", which are their '
        'defaults, "polar" (Polar Express, whose singular values end nearer to 1), or a list '
        "of triples (a, b, c), applied one after the other.",
    )
    scale = by_name(
        "rms",
        'what a step is scaled to: "rms", each element as large as with AdamW; "spectral", a '
        "step whose effect on the outputs does not depend on the sizes, for rates of about "
        "0.02.",
        choices=("rms", "spectral"),
    )
    input_axes = input_axes()
    batch_axes = batch_axes()
    per_head = by_name(False, "a matrix for each head of an attention kernel")
    normalize = by_name(
        None,
        '"neurons": divide each output of a step by the root of its running mean square '
        "(NorMuon); by default not.",
        choices=("neurons",),
    )
    neuron_beta = by_name(0.95, "decay of that mean square", minimum=0.0, below=1.0)
    compute_dtype = by_name(
        "auto",
        'dtype of the products: "float32", "bfloat16", or "auto": bfloat16 where the '
        "variable's device multiplies it faster (GPUs of capability 8.0 or more, TPUs). "
        "float64 variables compute in float64.",
        choices=("auto", "float32", "bfloat16"),
    )

    @property
    def _matrix_rules(self) -> MatrixRules:
        """Which variables are matrices."""
        return MatrixRules(
            title=type(self).__name__,
            others=self.exclude_layers,
            input_axes=self.input_axes,
            batch_axes=self.batch_axes,
            tables=not self.exclude_embeddings,
            last_kernel=self.output != "last",
            rank_2=self.matrices == "rank_2",
            per_head=self.per_head,
        )

    def _factor_of(self, sizes: tuple[int, int]) -> float:
        """Returns what the step of a matrix is multiplied by, beside the rate.

        Args:
          sizes: its numbers of rows and of columns, that is of inputs and of outputs.
        """
        rows, columns = sizes
        if self.scale == "spectral":
            return math.sqrt(max(1.0, columns / max(rows, 1)))
        return 1.0 if self.rms_rate is None else float(self.rms_rate * math.sqrt(max(sizes)))
