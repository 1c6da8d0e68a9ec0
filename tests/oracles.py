"""The algorithms in float64 NumPy, written from the papers and not from our code."""

import numpy as np


def sgd(w, gradients, learning_rate=0.01, momentum=0.0, nesterov=False, first_step=1):
    velocity = np.zeros_like(w)
    for g in gradients[first_step - 1 :]:
        if momentum == 0.0:
            w = w - learning_rate * g
            continue
        velocity = momentum * velocity - learning_rate * g
        w = w + (momentum * velocity - learning_rate * g if nesterov else velocity)
    return w


def adam(
    w,
    gradients,
    learning_rate=0.001,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-7,
    amsgrad=False,
    weight_decay=0.0,
    first_step=1,
):
    m, v, v_max = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=first_step):
        w = w - learning_rate * weight_decay * w
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        v_max = np.maximum(v_max, v)
        second = v_max if amsgrad else v
        alpha = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        w = w - alpha * m / (np.sqrt(second) + epsilon)
    return w
