"""AdamW: Adam with decoupled weight decay."""

from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.optimizers.adam import ONLY, Adam
from tf_keras_optim.optimizers.records import InKeras, registered


@registered(
    {"learning_rate": 0.01, "weight_decay": 0.1},
    InKeras("AdamW", only=ONLY),
    oracle="adam",
)
class AdamW(Adam):
    """Adam with decoupled weight decay.

    ```
    w <- w - lr * weight_decay * w
    then as Adam
    ```

    With `nesterov` this is NAdamW.

    {{arguments}}

    State: as Adam.

    Sparse gradients: as Adam; decay acts on every row. Rows can be updated lazily
    (`sparse`).

    Raises:
      ValueError: an argument is out of range, or `weight_decay` is `None`.

    Example:
      >>> optimizer = AdamW(learning_rate=0.1, weight_decay=0.5)
      >>> w = tf.Variable([1.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0]), w)])
      >>> w.numpy().round(3)
      array([0.85], dtype=float32)

    Source: Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    """

    weight_decay = Hyperparameter(
        0.004,
        minimum=0.0,
        position=1,
        schedulable=True,
        doc="fraction of each weight that a step at learning rate 1 removes, or a schedule; "
        "0.004 by default. `None` is refused: that is `Adam`.",
    )
