"""Moving statistics of batch normalization, computed again for other weights."""

from collections.abc import Iterable
from typing import Any

from tf_keras_optim.keras_compat import keras_private


def update_batch_statistics(model: Any, data: Iterable[Any], steps: int | None = None) -> int:
    """Recomputes the means and variances of batch normalization, as means over batches.

    The moving statistics of a model belong to its trained weights. Evaluation weights
    (averages, Schedule-Free's x) need their own: call this function while they are in place.
    The model is called as in training; its weights do not change.

    Args:
      model: a Keras model that is built.
      data: batches of the model's inputs, or tuples whose first element is such a batch.
      steps: number of batches to use; all by default.

    Returns:
      The number of batches. The statistics are means, over batches, of the mean and variance
      within each batch, so all batches should have one size.

    Raises:
      ValueError: the model is not built, or there are no batches, or fewer than `steps`. The
        statistics are then as before.

    Example:
      >>> layers = [tf.keras.Input((1,)), tf.keras.layers.BatchNormalization()]
      >>> model = tf.keras.Sequential(layers)
      >>> update_batch_statistics(model, [tf.constant([[1.0], [3.0]])])
      1
      >>> model.layers[-1].moving_mean.numpy()
      array([2.], dtype=float32)
    """
    if not model.built:
        raise ValueError(
            f"`update_batch_statistics`: argument `model` is not built. Received: {model!r}. "
            "Call it on a batch, or train it, first."
        )
    layers = [layer for layer in keras_private.layers(model) if _has_statistics(layer)]
    before = [(v, v.numpy()) for layer in layers for v in _statistics(layer)]
    momenta = [layer.momentum for layer in layers]
    count = 0
    try:
        for batch in data:
            if steps is not None and count == steps:
                break
            for layer in layers:
                layer.momentum = count / (count + 1)
            model(batch[0] if isinstance(batch, (tuple, list)) else batch, training=True)
            count += 1
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
    if not count or (steps is not None and count < steps):
        for variable, value in before:
            variable.assign(value)
        raise ValueError(
            f"`update_batch_statistics`: argument `data` gave {count} batches, but "
            f"{'at least one is' if steps is None else f'{steps} are'} needed. Give more data, "
            "or a smaller `steps`. The statistics are as before."
        )
    return count


def _statistics(layer: Any) -> list[Any]:
    return [layer.moving_mean, layer.moving_variance]


def _has_statistics(layer: Any) -> bool:
    names = ("moving_mean", "moving_variance", "momentum")
    return layer.trainable and all(hasattr(layer, name) for name in names)
