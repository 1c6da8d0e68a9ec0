"""The optimizers of PyTorch in float64 NumPy, from the formulas in its documentation.

Each takes a weight, its gradient, its state and the parameter group, and returns the new
weight and state; the names in both are those of PyTorch's `state_dict()`.
"""

import numpy as np

_RUN = {"maximize": False, "foreach": None, "capturable": False, "differentiable": False}
_ADAM = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "amsgrad": False,
    "fused": None,
    **_RUN,
}
DEFAULTS = {
    "SGD": {
        "lr": 1e-3, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False, **_RUN,
    },
    "Adam": {**_ADAM, "weight_decay": 0, "decoupled_weight_decay": False},
    "AdamW": {**_ADAM, "weight_decay": 0.01, "decoupled_weight_decay": True},
    "Adagrad": {
        "lr": 0.01, "lr_decay": 0, "eps": 1e-10, "weight_decay": 0,
        "initial_accumulator_value": 0, **_RUN,
    },
    "RMSprop": {
        "lr": 0.01, "momentum": 0, "alpha": 0.99, "eps": 1e-8, "centered": False,
        "weight_decay": 0, **_RUN,
    },
    "Adamax": {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, **_RUN},
    "NAdam": {
        "lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0,
        "momentum_decay": 4e-3, "decoupled_weight_decay": False, **_RUN,
    },
    "RAdam": {
        "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0,
        "decoupled_weight_decay": False, **_RUN,
    },
    "Muon": {
        "lr": 1e-3, "weight_decay": 0.1, "momentum": 0.95, "nesterov": True,
        "ns_coefficients": (3.4445, -4.775, 2.0315), "eps": 1e-7, "ns_steps": 5,
        "adjust_lr_fn": None,
    },
    "Adadelta": {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0, **_RUN},
}  # fmt: skip


def decayed(w, g, group):
    """The weight after decoupled decay, or the gradient with the penalty's."""
    if group.get("decoupled_weight_decay"):
        return w - group["lr"] * group["weight_decay"] * w, g
    return w, g + group["weight_decay"] * w


def sgd(w, g, state, group):
    w, g = decayed(w, g, group)
    if not group["momentum"]:
        return w - group["lr"] * g, {}
    buffer = group["momentum"] * state.get("momentum_buffer", 0.0) + g
    step = g + group["momentum"] * buffer if group["nesterov"] else buffer
    return w - group["lr"] * step, {"momentum_buffer": buffer}


def moments(g, state, group):
    b1, b2 = group["betas"]
    m = b1 * state.get("exp_avg", np.zeros_like(g)) + (1 - b1) * g
    v = b2 * state.get("exp_avg_sq", np.zeros_like(g)) + (1 - b2) * g**2
    return m, v


def adam(w, g, state, group):
    w, g = decayed(w, g, group)
    b1, b2 = group["betas"]
    t = state.get("step", 0) + 1
    m, v = moments(g, state, group)
    after = {"step": t, "exp_avg": m, "exp_avg_sq": v}
    if group["amsgrad"]:
        v = after["max_exp_avg_sq"] = np.maximum(state.get("max_exp_avg_sq", 0.0), v)
    m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
    return w - group["lr"] * m_hat / (np.sqrt(v_hat) + group["eps"]), after


def adagrad(w, g, state, group):
    w, g = decayed(w, g, group)
    t = state.get("step", 0) + 1
    total = state.get("sum", group["initial_accumulator_value"]) + g**2
    rate = group["lr"] / (1 + (t - 1) * group["lr_decay"])
    return w - rate * g / (np.sqrt(total) + group["eps"]), {"step": t, "sum": total}


def rmsprop(w, g, state, group):
    w, g = decayed(w, g, group)
    a = group["alpha"]
    v = a * state.get("square_avg", 0.0) + (1 - a) * g**2
    after = {"step": state.get("step", 0) + 1, "square_avg": v}
    if group["centered"]:
        mean = after["grad_avg"] = a * state.get("grad_avg", 0.0) + (1 - a) * g
        v = v - mean**2
    step = g / (np.sqrt(v) + group["eps"])
    if group["momentum"]:
        step = group["momentum"] * state.get("momentum_buffer", 0.0) + step
        after["momentum_buffer"] = step
    return w - group["lr"] * step, after


def adamax(w, g, state, group):
    w, g = decayed(w, g, group)
    b1, b2 = group["betas"]
    t = state.get("step", 0) + 1
    m = b1 * state.get("exp_avg", 0.0) + (1 - b1) * g
    u = np.maximum(b2 * state.get("exp_inf", 0.0), np.abs(g) + group["eps"])
    after = {"step": t, "exp_avg": m, "exp_inf": u}
    return w - group["lr"] / (1 - b1**t) * m / u, after


def nadam(w, g, state, group):
    w, g = decayed(w, g, group)
    b1, b2 = group["betas"]
    t = state.get("step", 0) + 1
    mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (s * group["momentum_decay"])) for s in (t, t + 1))
    product = state.get("mu_product", 1.0) * mu
    m, v = moments(g, state, group)
    m_hat = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
    after = {"step": t, "exp_avg": m, "exp_avg_sq": v, "mu_product": product}
    return w - group["lr"] * m_hat / (np.sqrt(v / (1 - b2**t)) + group["eps"]), after


def radam(w, g, state, group):
    w, g = decayed(w, g, group)
    b1, b2 = group["betas"]
    t = state.get("step", 0) + 1
    m, v = moments(g, state, group)
    after = {"step": t, "exp_avg": m, "exp_avg_sq": v}
    step = group["lr"] * m / (1 - b1**t)
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * t * b2**t / (1 - b2**t)
    if length > 5:
        top = (length - 4) * (length - 2) * longest
        rectification = np.sqrt(top / ((longest - 4) * (longest - 2) * length))
        step = step * rectification * np.sqrt(1 - b2**t) / (np.sqrt(v) + group["eps"])
    return w - step, after


def adadelta(w, g, state, group):
    w, g = decayed(w, g, group)
    rho, eps = group["rho"], group["eps"]
    square = rho * state.get("square_avg", 0.0) + (1 - rho) * g**2
    moved = state.get("acc_delta", 0.0)
    step = np.sqrt(moved + eps) / np.sqrt(square + eps) * g
    moved = rho * moved + (1 - rho) * step**2
    after = {"step": state.get("step", 0) + 1, "square_avg": square, "acc_delta": moved}
    return w - group["lr"] * step, after


def muon(w, g, state, group):
    mu, (outputs, inputs) = group["momentum"], w.shape
    buffer = mu * state.get("momentum_buffer", 0.0) + (1 - mu) * g
    x = (1 - mu) * g + mu * buffer if group["nesterov"] else buffer
    x = x.T if outputs > inputs else x
    x = x / max(np.linalg.norm(x), group["eps"])
    a, b, c = group["ns_coefficients"]
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.T if outputs > inputs else x
    ratio = np.sqrt(max(1.0, outputs / inputs))
    if group["adjust_lr_fn"] == "match_rms_adamw":
        ratio = 0.2 * np.sqrt(max(outputs, inputs))
    w = w - group["lr"] * group["weight_decay"] * w
    return w - group["lr"] * ratio * x, {"momentum_buffer": buffer}


OPTIMIZERS = {
    "Muon": muon,
    "SGD": sgd,
    "Adam": adam,
    "AdamW": adam,
    "Adagrad": adagrad,
    "RMSprop": rmsprop,
    "Adamax": adamax,
    "NAdam": nadam,
    "RAdam": radam,
    "Adadelta": adadelta,
}
