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


def rmsprop(
    w, gradients, learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False,
    first_step=1,
):  # fmt: skip
    square, mean, velocity = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for g in gradients[first_step - 1 :]:
        square = rho * square + (1 - rho) * g**2
        mean = rho * mean + (1 - rho) * g
        variance = square - mean**2 if centered else square
        velocity = momentum * velocity + learning_rate * g / np.sqrt(variance + epsilon)
        w = w - velocity
    return w


def adadelta(w, gradients, learning_rate=0.001, rho=0.95, epsilon=1e-7, first_step=1):
    square, moved = np.zeros_like(w), np.zeros_like(w)
    for g in gradients[first_step - 1 :]:
        square = rho * square + (1 - rho) * g**2
        step = np.sqrt(moved + epsilon) / np.sqrt(square + epsilon) * g
        moved = rho * moved + (1 - rho) * step**2
        w = w - learning_rate * step
    return w


def adagrad(
    w, gradients, learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7, first_step=1
):
    total = np.full_like(w, initial_accumulator_value)
    for g in gradients[first_step - 1 :]:
        total = total + g**2
        w = w - learning_rate * g / np.sqrt(total + epsilon)
    return w


def adamax(
    w, gradients, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, first_step=1
):
    m, u = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=first_step):
        m = beta_1 * m + (1 - beta_1) * g
        u = np.maximum(beta_2 * u, np.abs(g))
        w = w - learning_rate * m / ((1 - beta_1**t) * (u + epsilon))
    return w


def nadam(
    w, gradients, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, first_step=1
):
    m, v, product = np.zeros_like(w), np.zeros_like(w), 1.0
    for t, g in enumerate(gradients, start=first_step):
        mu, mu_next = (beta_1 * (1 - 0.5 * 0.96**s) for s in (t, t + 1))
        product = product * mu
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        m_hat = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
        v_hat = v / (1 - beta_2**t)
        w = w - learning_rate * m_hat / (np.sqrt(v_hat) + epsilon)
    return w


def ftrl(
    w,
    gradients,
    learning_rate=0.001,
    learning_rate_power=-0.5,
    initial_accumulator_value=0.1,
    l1_regularization_strength=0.0,
    l2_regularization_strength=0.0,
    l2_shrinkage_regularization_strength=0.0,
    beta=0.0,
    first_step=1,
):
    n, z = np.full_like(w, initial_accumulator_value), np.zeros_like(w)
    l1 = l1_regularization_strength
    l2 = l2_regularization_strength + beta / (2 * learning_rate)
    for g in gradients[first_step - 1 :]:
        n_next = n + g**2
        sigma = (n_next**-learning_rate_power - n**-learning_rate_power) / learning_rate
        z = z + g + 2 * l2_shrinkage_regularization_strength * w - sigma * w
        quadratic = n_next**-learning_rate_power / learning_rate + 2 * l2
        w = np.where(np.abs(z) <= l1, 0.0, (np.sign(z) * l1 - z) / quadratic)
        n = n_next
    return w


def lion(w, gradients, learning_rate=0.001, beta_1=0.9, beta_2=0.99, first_step=1):
    m = np.zeros_like(w)
    for g in gradients[first_step - 1 :]:
        w = w - learning_rate * np.sign(beta_1 * m + (1 - beta_1) * g)
        m = beta_2 * m + (1 - beta_2) * g
    return w


def lamb(
    w,
    gradients,
    learning_rate=0.001,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-7,
    weight_decay=0.0,
    decay_in_trust_ratio=False,
    adapts=True,
    first_step=1,
):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients[first_step - 1 :], start=first_step):
        if not decay_in_trust_ratio:
            w = w - learning_rate * weight_decay * w
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        u = m / (1 - beta_1**t) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
        if decay_in_trust_ratio:
            u = u + weight_decay * w
        size, length = np.sqrt(np.sum(w**2)), np.sqrt(np.sum(u**2))
        ratio = size / length if adapts and size > 0 and length > 0 else 1.0
        w = w - learning_rate * ratio * u
    return w


def adafactor(
    w,
    gradients,
    learning_rate=0.001,
    beta_2_decay=-0.8,
    epsilon_1=1e-30,
    epsilon_2=1e-3,
    clip_threshold=1.0,
    relative_step=True,
    scale_parameter=True,
    first_step=1,
):
    def rms(x):
        return np.sqrt(np.mean(x**2))

    row, column, v = 0.0, 0.0, 0.0
    for t, g in enumerate(gradients, start=first_step):
        rate = min(learning_rate, t**-0.5) if relative_step else learning_rate
        rate = rate * max(epsilon_2, rms(w)) if scale_parameter else rate
        beta = 1 - t**beta_2_decay
        square = g**2 + epsilon_1
        if g.ndim >= 2:
            row = beta * row + (1 - beta) * square.mean(axis=-1)
            column = beta * column + (1 - beta) * square.mean(axis=-2)
            scaled = row / row.mean(axis=-1, keepdims=True)
            v = scaled[..., :, None] * column[..., None, :]
        else:
            v = beta * v + (1 - beta) * square
        u = g / np.sqrt(v)
        w = w - rate * u / max(1.0, rms(u) / clip_threshold)
    return w
