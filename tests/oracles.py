"""The algorithms in float64 NumPy, written from the papers and not from our code.

Each stands once, as one step: `step(w, g, s, history)` returns the new weight. `s` is a dict
with the slots, empty before the first step, and `history` has the hyperparameters of every step
so far, this one last. So a number may change from step to step, and what stands around a step
(decay, clips, averages) is the caller's. `sgd`, `adam`, ... run one over a list of gradients.
"""

import numpy as np


def product(history, name):
    """The product of a hyperparameter over all steps, with constant betas `beta ** t`."""
    return np.prod([values[name] for values in history])


def sgd_step(w, g, s, history):
    h = history[-1]
    rate, momentum = h["learning_rate"], h["momentum"]
    if momentum == 0.0:
        return w - rate * g
    velocity = s["v"] = momentum * s.get("v", 0.0) - rate * g
    return w + (momentum * velocity - rate * g if h["nesterov"] else velocity)


def adam_step(w, g, s, history):
    h = history[-1]
    w = w - h["learning_rate"] * h["weight_decay"] * w
    m = s["m"] = h["beta_1"] * s.get("m", 0.0) + (1 - h["beta_1"]) * g
    v = s["v"] = h["beta_2"] * s.get("v", 0.0) + (1 - h["beta_2"]) * g * g
    v_max = s["v_max"] = np.maximum(s.get("v_max", 0.0), v)
    second = v_max if h["amsgrad"] else v
    product_1 = product(history, "beta_1")
    m_hat = m / (1 - product_1)
    if h["nesterov"]:  # each term corrected by itself, that of the moment as one step later
        m_hat = h["beta_1"] * m / (1 - product_1 * h["beta_1"])
        m_hat = m_hat + (1 - h["beta_1"]) * g / (1 - product_1)
    correction = np.sqrt(1 - product(history, "beta_2"))
    return w - h["learning_rate"] * correction * m_hat / (np.sqrt(second) + h["epsilon"])


def rmsprop_step(w, g, s, history):
    h = history[-1]
    square = s["square"] = h["rho"] * s.get("square", 0.0) + (1 - h["rho"]) * g**2
    mean = s["mean"] = h["rho"] * s.get("mean", 0.0) + (1 - h["rho"]) * g
    variance = square - mean**2 if h["centered"] else square
    step = h["learning_rate"] * g / np.sqrt(variance + h["epsilon"])
    velocity = s["velocity"] = h["momentum"] * s.get("velocity", 0.0) + step
    return w - velocity


def adadelta_step(w, g, s, history):
    h = history[-1]
    rho, epsilon, moved = h["rho"], h["epsilon"], s.get("moved", 0.0)
    square = s["square"] = rho * s.get("square", 0.0) + (1 - rho) * g**2
    step = np.sqrt(moved + epsilon) / np.sqrt(square + epsilon) * g
    s["moved"] = rho * moved + (1 - rho) * step**2
    return w - h["learning_rate"] * step


def adagrad_step(w, g, s, history):
    h = history[-1]
    total = s["total"] = s.get("total", h["initial_accumulator_value"]) + g**2
    return w - h["learning_rate"] * g / np.sqrt(total + h["epsilon"])


def adamax_step(w, g, s, history):
    h = history[-1]
    m = s["m"] = h["beta_1"] * s.get("m", 0.0) + (1 - h["beta_1"]) * g
    u = s["u"] = np.maximum(h["beta_2"] * s.get("u", 0.0), np.abs(g))
    return w - h["learning_rate"] * m / ((1 - product(history, "beta_1")) * (u + h["epsilon"]))


def nadam_step(w, g, s, history):
    h, t = history[-1], len(history)
    mus = [past["beta_1"] * (1 - 0.5 * 0.96**n) for n, past in enumerate(history, start=1)]
    mu, mu_next, so_far = mus[-1], h["beta_1"] * (1 - 0.5 * 0.96 ** (t + 1)), np.prod(mus)
    m = s["m"] = h["beta_1"] * s.get("m", 0.0) + (1 - h["beta_1"]) * g
    v = s["v"] = h["beta_2"] * s.get("v", 0.0) + (1 - h["beta_2"]) * g**2
    m_hat = mu_next * m / (1 - so_far * mu_next) + (1 - mu) * g / (1 - so_far)
    v_hat = v / (1 - product(history, "beta_2"))
    return w - h["learning_rate"] * m_hat / (np.sqrt(v_hat) + h["epsilon"])


def ftrl_step(w, g, s, history):
    h = history[-1]
    rate, power = h["learning_rate"], -h["learning_rate_power"]
    if rate == 0.0:
        return w  # the paper divides by it; nothing moves
    l1 = h["l1_regularization_strength"]
    l2 = h["l2_regularization_strength"] + h["beta"] / (2 * rate)
    n = s.get("n", h["initial_accumulator_value"])
    n_next = s["n"] = n + g**2
    sigma = (n_next**power - n**power) / rate
    shrunk = g + 2 * h["l2_shrinkage_regularization_strength"] * w
    z = s["z"] = s.get("z", 0.0) + shrunk - sigma * w
    quadratic = n_next**power / rate + 2 * l2
    return np.where(np.abs(z) <= l1, 0.0, (np.sign(z) * l1 - z) / quadratic)


def lion_step(w, g, s, history):
    h, m = history[-1], s.get("m", 0.0)
    s["m"] = h["beta_2"] * m + (1 - h["beta_2"]) * g
    return w - h["learning_rate"] * np.sign(h["beta_1"] * m + (1 - h["beta_1"]) * g)


def lamb_step(w, g, s, history):
    h = history[-1]
    rate, inside = h["learning_rate"], h["decay_in_trust_ratio"]
    if not inside:
        w = w - rate * h["weight_decay"] * w
    m = s["m"] = h["beta_1"] * s.get("m", 0.0) + (1 - h["beta_1"]) * g
    v = s["v"] = h["beta_2"] * s.get("v", 0.0) + (1 - h["beta_2"]) * g**2
    root = np.sqrt(v / (1 - product(history, "beta_2")))
    u = m / (1 - product(history, "beta_1")) / (root + h["epsilon"])
    if inside:
        u = u + h["weight_decay"] * w
    size, length = np.sqrt(np.sum(w**2)), np.sqrt(np.sum(u**2))
    ratio = size / length if h["adapts"] and size > 0 and length > 0 else 1.0
    return w - rate * ratio * u


def adafactor_step(w, g, s, history):
    h, t = history[-1], len(history)
    rate = min(h["learning_rate"], t**-0.5) if h["relative_step"] else h["learning_rate"]
    rate = rate * max(h["epsilon_2"], _rms(w)) if h["scale_parameter"] else rate
    beta = 1 - t ** h["beta_2_decay"]
    square = g**2 + h["epsilon_1"]
    if g.ndim >= 2:
        row = s["row"] = beta * s.get("row", 0.0) + (1 - beta) * square.mean(axis=-1)
        column = beta * s.get("column", 0.0) + (1 - beta) * square.mean(axis=-2)
        s["column"] = column
        scaled = row / row.mean(axis=-1, keepdims=True)
        v = scaled[..., :, None] * column[..., None, :]
    else:
        v = s["v"] = beta * s.get("v", 0.0) + (1 - beta) * square
    u = g / np.sqrt(v)
    step = rate * u / max(1.0, _rms(u) / h["clip_threshold"])
    if h["beta_1"] is not None:  # the mean of whole steps, each with its own rate
        step = s["m"] = h["beta_1"] * s.get("m", 0.0) + (1 - h["beta_1"]) * step
    return w - step


def mars_step(w, g, s, history):
    h, kind = history[-1], "adam_" if g.ndim < 2 else ""
    c = g
    if g.ndim >= 2:
        share = h["gamma"] * h["beta_1"] / (1 - h["beta_1"])
        c = g + share * (g - s.get("last", g))
        c = c / max(1.0, np.sqrt(np.sum(c**2)))
        s["last"] = g
    w = w - h["learning_rate"] * h["weight_decay"] * w
    b1, b2 = f"{kind}beta_1", f"{kind}beta_2"
    m = s["m"] = h[b1] * s.get("m", 0.0) + (1 - h[b1]) * c
    v = s["v"] = h[b2] * s.get("v", 0.0) + (1 - h[b2]) * c**2
    m, v = m / (1 - product(history, b1)), v / (1 - product(history, b2))
    return w - h["learning_rate"] * m / (np.sqrt(v) + h["epsilon"])


def _factored_root(square, s, name, beta):
    """The root of what the means of squares over rows and over columns stand for."""
    row = s[f"{name}_row"] = beta * s.get(f"{name}_row", 0.0) + (1 - beta) * square.mean(-1)
    column = beta * s.get(f"{name}_column", 0.0) + (1 - beta) * square.mean(-2)
    s[f"{name}_column"] = column
    scaled = row / row.mean(axis=-1, keepdims=True)
    return np.sqrt(scaled[..., :, None] * column[..., None, :])


def came_step(w, g, s, history):
    h = history[-1]
    square = g**2 + h["epsilon_1"]
    if g.ndim >= 2:
        u = g / _factored_root(square, s, "gradient", h["beta_2"])
    else:
        v = s["v"] = h["beta_2"] * s.get("v", 0.0) + (1 - h["beta_2"]) * square
        u = g / np.sqrt(v)
    u = u / max(1.0, _rms(u) / h["clip_threshold"])
    m = s["m"] = h["beta_1"] * s.get("m", 0.0) + (1 - h["beta_1"]) * u
    if g.ndim < 2:
        return w - h["learning_rate"] * m
    rest = (u - m) ** 2 + h["epsilon_2"]
    return w - h["learning_rate"] * m / _factored_root(rest, s, "rest", h["beta_3"])


def muon_step(w, g, s, history):
    """The momentum is a mean, as in Jordan's; what is a matrix is given, or has two axes."""
    h = history[-1]
    axes = h["axes"]
    if axes is None and w.ndim == 2 and min(w.shape) > 1:
        axes = ((0,), (1,), ())
    if not axes:
        names = {n.removeprefix("adam_"): v for n, v in h.items() if n.startswith("adam_")}
        steps = [
            {"beta_1": past["adam_beta_1"], "beta_2": past["adam_beta_2"]} for past in history
        ]
        w = w - h["learning_rate"] * names["weight_decay"] * w
        last = h | names | {"weight_decay": 0.0, "amsgrad": False, "nesterov": False}
        last["learning_rate"] = h["learning_rate"] * h["adam_lr_ratio"]
        return adam_step(w, g, s, [*steps[:-1], last])
    rows, columns, batch = axes
    w = w - h["learning_rate"] * h["weight_decay"] * w
    mu = h["momentum"]
    m = s["m"] = mu * s.get("m", 0.0) + (1 - mu) * g
    d = (1 - mu) * g + mu * m if h["nesterov"] else m
    order = (*batch, *rows, *columns)
    moved = np.transpose(d, order)
    sizes = [int(np.prod([w.shape[axis] for axis in part])) for part in (batch, rows, columns)]
    x = moved.reshape(sizes)
    x = x / (h["safety"] * np.sqrt(np.sum(x**2, (1, 2), keepdims=True)) + 1e-7)
    for a, b, c in h["triples"]:
        gram = np.swapaxes(x, 1, 2) @ x
        x = a * x + x @ (b * gram + c * gram @ gram)
    if h["neuron_beta"]:
        mean = s["neurons"] = h["neuron_beta"] * s.get("neurons", 0.0) + (
            1 - h["neuron_beta"]
        ) * (x**2).mean(1)
        y = x / (np.sqrt(mean)[:, None, :] + 1e-8)
        lengths = [np.sqrt(np.sum(z**2, (1, 2), keepdims=True)) for z in (x, y)]
        x = y * lengths[0] / lengths[1]
    factor = 0.2 * np.sqrt(max(sizes[1:]))
    if h["spectral"]:
        factor = np.sqrt(max(1.0, sizes[2] / sizes[1]))
    back = x.reshape(moved.shape).transpose(np.argsort(order))
    return w - h["learning_rate"] * factor * back


def soap_step(w, g, s, history):
    """Bases by eigenvectors first, then by one orthogonal iteration; axes as for Muon.

    With `rounds` the first ones are those of so many iterations from the axes.
    """
    h, t = history[-1], len(history)
    w = w if h["start"] == "skip" and t == 1 else w - h["learning_rate"] * h["weight_decay"] * w
    axes = h["axes"]
    if axes is None and w.ndim >= 2:
        axes = (tuple(range(w.ndim - 1)), (w.ndim - 1,), ())
    if not axes:
        axes = ((), tuple(range(w.ndim)), ())
    rows, columns, batch = axes
    order = (*batch, *rows, *columns)
    moved = np.transpose(g, order)
    sizes = [int(np.prod([w.shape[axis] for axis in part])) for part in (batch, rows, columns)]
    sides = [n if n <= h["largest_side"] and min(sizes[1:]) > 1 else 0 for n in sizes[1:]]
    if h["sides"] == "shorter":
        other = 1 if sizes[1] <= sizes[2] else 0
        sides[other] = 0
    if not s:
        s["m"], s["v"] = np.zeros(sizes), np.zeros(sizes)
        s["q"] = [np.stack([np.eye(n)] * sizes[0]) for n in sizes[1:]]
        s["f"] = [np.zeros((sizes[0], n, n)) for n in sizes[1:]]
    x, (left, right) = moved.reshape(sizes), s["q"]
    skips = h["start"] == "skip"
    if not (skips and t == 1):
        turned = np.swapaxes(left, 1, 2) @ x @ right
        s["m"] = h["beta_1"] * s["m"] + (1 - h["beta_1"]) * turned
        s["v"] = h["beta_2"] * s["v"] + (1 - h["beta_2"]) * turned**2
        known = history[1:] if skips else history
        m = s["m"] / (1 - product(known, "beta_1"))
        root = (np.sqrt(s["v"]) + h["epsilon"]) / np.sqrt(1 - product(known, "beta_2"))
        step = (left @ (m / root) @ np.swapaxes(right, 1, 2)).reshape(moved.shape)
        w = w - h["learning_rate"] * step.transpose(np.argsort(order))
    share = h["beta_2"] if h["shampoo_beta"] is None else h["shampoo_beta"]
    outer = x @ np.swapaxes(x, 1, 2), np.swapaxes(x, 1, 2) @ x
    s["f"] = [share * f + (1 - share) * o for f, o in zip(s["f"], outer)]
    since = t - (1 if skips else h["every"])
    if since >= 0 and since % h["every"] == 0:
        for side in (0, 1):
            for b in range(sizes[0] if sides[side] else 0):
                _turn(s, side, b, since == 0, h["rounds"])
    return w


def _turn(s, side, b, is_first, rounds):
    """Gives one matrix a new basis of one side, in which its moments are then."""
    factor, old = s["f"][side][b], s["q"][side][b]
    order = np.argsort(-np.diag(old.T @ factor @ old), kind="stable")
    new = old[:, order]
    if is_first and not rounds:
        new = np.linalg.eigh(factor)[1][:, ::-1]
    for _ in range(rounds if is_first else 1):
        new = np.linalg.qr(factor @ new)[0]
    between = new.T @ old
    m, v = s["m"][b], s["v"][b]
    s["m"][b] = between @ m if side == 0 else m @ between.T
    s["v"][b] = v[order] if side == 0 else v[:, order]
    s["q"][side][b] = new


def shampoo_step(w, g, s, history):
    """Roots serve from the step after that on in which they are computed; axes as for Soap."""
    h, t = history[-1], len(history)
    w = w - h["learning_rate"] * h["weight_decay"] * w
    m = s["m"] = h["beta_1"] * s.get("m", 0.0) + (1 - h["beta_1"]) * g
    n = h["beta_1"] * m + (1 - h["beta_1"]) * g if h["nesterov"] else m
    n = n / (1 - product(history, "beta_1"))
    v = s["v"] = h["beta_2"] * s.get("v", 0.0) + (1 - h["beta_2"]) * g**2
    axes, grafting = h["axes"], h["grafting"]
    if axes is None and w.ndim >= 2 and min(np.prod(w.shape[:-1]), w.shape[-1]) > 1:
        axes = (tuple(range(w.ndim - 1)), (w.ndim - 1,), ())
    if not axes and grafting is None:
        grafting = "adam"
    correction = 1.0 if grafting == "rmsprop" else 1 - product(history, "beta_2")
    a = (
        n
        if grafting in ("sgd", None)
        else n / (np.sqrt(v / correction) + h["grafting_epsilon"])
    )
    if not axes:
        return w - h["learning_rate"] * a
    order = (*axes[2], *axes[0], *axes[1])
    sizes = [int(np.prod([w.shape[axis] for axis in part])) for part in (axes[2], *axes[:2])]
    x, y, z = (np.transpose(part, order).reshape(sizes) for part in (g, n, a))
    step, root = np.zeros(sizes), h["root"]
    sides = [-(-size // -(-size // h["block"])) for size in sizes[1:]]  # of equal blocks
    cuts = [
        [np.arange(i, min(i + side, size)) for i in range(0, size, side)]
        for size, side in zip(sizes[1:], sides)
    ]
    due = t >= h["first"] and t % h["every"] == 0
    for b in range(sizes[0]):
        for rows in cuts[0]:
            for columns in cuts[1]:
                at, key = np.ix_([b], rows, columns), (b, rows[0], columns[0])
                one, mean, graft = x[at][0], y[at][0], z[at][0]
                u = graft
                if ("roots", key) in s:
                    left, right = s["roots", key]
                    u = left @ mean @ right
                    if grafting is not None:
                        u = u * np.linalg.norm(graft) / np.linalg.norm(u)
                step[at] = u
                factors = s.get(("factors", key), (0.0, 0.0))
                outer = one @ one.T, one.T @ one
                factors = [
                    h["beta_2"] * f + (1 - h["beta_2"]) * o for f, o in zip(factors, outer)
                ]
                s["factors", key] = factors
                if due:
                    s["roots", key] = [
                        _inverse_root(f / (1 - product(history, "beta_2")), root, h["epsilon"])
                        for f in factors
                    ]
    moved = step.reshape([w.shape[axis] for axis in order]).transpose(np.argsort(order))
    return w - h["learning_rate"] * moved


def _inverse_root(matrix, root, epsilon):
    values, vectors = np.linalg.eigh(matrix)
    values = values - min(values[0], 0.0)
    return (vectors * (values + epsilon * values[-1]) ** (-1.0 / root)) @ vectors.T


def _rms(x):
    return np.sqrt(np.mean(x**2))


def _rectification(beta_2, t, threshold):
    """The factor of a rectified step, or `None` where the variance cannot be told."""
    longest = 2 / (1 - beta_2) - 1
    length = longest - 2 * t * beta_2**t / (1 - beta_2**t)
    if length <= threshold:
        return None
    above = (length - 4) * (length - 2) * longest
    return np.sqrt(above / ((longest - 4) * (longest - 2) * length))


def radam_step(w, g, s, history):
    h, t = history[-1], len(history)
    m = s["m"] = h["beta_1"] * s.get("m", 0.0) + (1 - h["beta_1"]) * g
    v = s["v"] = h["beta_2"] * s.get("v", 0.0) + (1 - h["beta_2"]) * g**2
    m_hat = m / (1 - product(history, "beta_1"))
    factor = _rectification(h["beta_2"], t, h["threshold"])
    if factor is None:
        return w - h["learning_rate"] * m_hat
    correction = 1 - h["beta_2"] ** t
    root = np.sqrt(v / correction) + h["epsilon"]
    if not h["epsilon_after_correction"]:
        root = (np.sqrt(v) + h["epsilon"]) / np.sqrt(correction)
    return w - h["learning_rate"] * factor * m_hat / root


def yogi_step(w, g, s, history):
    h = history[-1]
    m = s["m"] = h["beta_1"] * s.get("m", 0.0) + (1 - h["beta_1"]) * g
    n = s.get("n", np.full_like(g, h["initial_accumulator_value"]))
    n = s["n"] = n - (1 - h["beta_2"]) * np.sign(n - g**2) * g**2
    m_hat = m / (1 - product(history, "beta_1"))
    n_hat = n / (1 - product(history, "beta_2"))
    return w - h["learning_rate"] * m_hat / (np.sqrt(n_hat) + h["epsilon"])


def adabelief_step(w, g, s, history):
    h = history[-1]
    m = s["m"] = h["beta_1"] * s.get("m", 0.0) + (1 - h["beta_1"]) * g
    v = h["beta_2"] * s.get("v", 0.0) + (1 - h["beta_2"]) * (g - m) ** 2 + h["epsilon"]
    s["v"] = v
    m_hat = m / (1 - product(history, "beta_1"))
    root = np.sqrt(v / (1 - product(history, "beta_2"))) + h["epsilon"]
    if h["rectify"]:
        factor = _rectification(h["beta_2"], len(history), 5.0)
        return w - h["learning_rate"] * (m_hat if factor is None else factor * m_hat / root)
    return w - h["learning_rate"] * m_hat / root


NONE_YET = -1.0  # of a square: there was no gradient


def adopt_step(w, g, s, history):
    h, t = history[-1], len(history)
    rate = h["learning_rate"]
    v = s.get("seen", np.full_like(g, NONE_YET))
    first = v == NONE_YET
    if t > 1:
        w = w - rate * h["weight_decay"] * w
    normalized = g / np.maximum(np.sqrt(np.where(first, 1.0, v)), h["epsilon"])
    if h["clip_power"] is not None:
        limit = (t - 1) ** h["clip_power"]
        normalized = np.clip(normalized, -limit, limit)
    m = s.get("m", np.zeros_like(g))
    m = s["m"] = np.where(first, m, h["beta_1"] * m + (1 - h["beta_1"]) * normalized)
    s["seen"] = np.where(first, g**2, h["beta_2"] * v + (1 - h["beta_2"]) * g**2)
    return np.where(first, w, w - rate * m)


def ademamix_step(w, g, s, history):
    h, t = history[-1], len(history)
    b1, b3, alpha = h["beta_1"], h["beta_3"], h["alpha"]
    if h["warmup_steps"]:
        part = min(t / h["warmup_steps"], 1.0)
        alpha, log_1, log_3 = part * alpha, np.log(b1), np.log(b3)
        b3 = np.exp(log_1 * log_3 / ((1 - part) * log_3 + part * log_1))
    fast = s["fast"] = b1 * s.get("fast", 0.0) + (1 - b1) * g
    slow = s["slow"] = b3 * s.get("slow", 0.0) + (1 - b3) * g
    v = s["v"] = h["beta_2"] * s.get("v", 0.0) + (1 - h["beta_2"]) * g**2
    root = np.sqrt(v / (1 - product(history, "beta_2"))) + h["epsilon"]
    mean = fast / (1 - product(history, "beta_1")) + alpha * slow
    return w - h["learning_rate"] * mean / root


def adan_step(w, g, s, history):
    h = history[-1]
    b1, b2, b3 = h["beta_1"], h["beta_2"], h["beta_3"]
    seen = s.get("seen", np.full_like(g, NONE_YET))
    difference = np.where(seen == NONE_YET, 0.0, g - s.get("last", 0.0))
    m = s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    v = s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * difference
    before = np.where(seen == NONE_YET, 0.0, seen)
    n = s["seen"] = b3 * before + (1 - b3) * (g + b2 * difference) ** 2
    s["last"] = g
    c1, c2, c3 = (1 - product(history, name) for name in ("beta_1", "beta_2", "beta_3"))
    u = (m / c1 + b2 * v / c2) / (np.sqrt(n / c3) + h["epsilon"])
    return (w - h["learning_rate"] * u) / (1 + h["learning_rate"] * h["weight_decay"])


def lars_step(w, g, s, history):
    h, decay = history[-1], history[-1]["weight_decay"]
    size, length = np.sqrt(np.sum(w**2)), np.sqrt(np.sum(g**2))
    ratio = 1.0
    if h["adapts"] and size > 0 and length > 0:
        ratio = h["trust_coefficient"] * size / (length + decay * size + h["epsilon"])
    step = h["learning_rate"] * ratio * (g + decay * w)
    b = s["b"] = h["momentum"] * s.get("b", 0.0) + step
    return w - (h["momentum"] * b + step if h["nesterov"] else b)


_ADAM = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}


def sgld_step(w, g, s, history):
    """Without noise, as the two below: at temperature 0."""
    return w - history[-1]["learning_rate"] * g


def psgld_step(w, g, s, history):
    h = history[-1]
    v = s["v"] = h["rho"] * s.get("v", 0.0) + (1 - h["rho"]) * g**2
    return w - h["learning_rate"] * g / (np.sqrt(v) + h["epsilon"])


def sghmc_step(w, g, s, history):
    h = history[-1]
    v = s["v"] = h["momentum"] * s.get("v", 0.0) - h["learning_rate"] * g
    return w + v


def prodigy_step(w, g, s, history):
    """All variables as one vector: d belongs to them together. At a rate of 0 nothing moves."""
    h = history[-1]
    if h["learning_rate"] == 0.0:
        return w
    first, beta_1, beta_2 = h["initial_d"], h["beta_1"], h["beta_2"]
    beta_3 = np.sqrt(beta_2) if h["beta_3"] is None else h["beta_3"]
    d, start, t = s.get("d", first), s.setdefault("start", w), s.get("t", 0) + 1
    rate = d * h["learning_rate"]
    if h["use_bias_correction"]:
        rate *= np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    part = slice(None, None, h["every_nth"])
    along = np.sum((g * (start - w)).ravel()[part])
    numerator = beta_3 * s.get("numerator", 0.0) + d / first * rate * along
    weight = d / first * (d if h["safeguard_warmup"] else rate)
    total = beta_3 * s.get("total", 0.0) + weight * g.ravel()[part]
    if np.sum(np.abs(total)) == 0.0:
        return w
    estimate = h["d_coefficient"] * numerator / np.sum(np.abs(total))
    m = beta_1 * s.get("m", 0.0) + (1 - beta_1) * d * g
    v = beta_2 * s.get("v", 0.0) + (1 - beta_2) * (d * g) ** 2
    new = max(d, estimate) if d == first else d
    largest = max(s.get("largest", first), estimate)
    new = min(largest, new * (np.inf if h["growth_rate"] is None else h["growth_rate"]))
    s.update(numerator=numerator, total=total, m=m, v=v, largest=largest, d=new, t=t)
    return w - h["weight_decay"] * rate * w - rate * m / (np.sqrt(v) + new * h["epsilon"])


# By name of the algorithm: its step, and the hyperparameters where nothing else is said.
def _schedule_free(w, direction, factor, mixing, s, history):
    """Moves y and z along a direction at y; the weight of this z in x goes by the rates.

    Of all steps, those in which this weight had no gradient too.
    """
    h, z = history[-1], s.get("z", w)
    rates = [past["learning_rate"] * factor(past, t) for t, past in enumerate(history, 1)]
    largest = np.maximum.accumulate(rates)
    weights = [
        t ** h["averaging_power"] * r ** h["rate_power"] for t, r in enumerate(largest, 1)
    ]
    c, rate = weights[-1] / sum(weights) if sum(weights) else 0.0, rates[-1]
    direction = direction + h["weight_decay"] * w
    x = (w - (1 - mixing) * z) / mixing
    z = s["z"] = z - rate * direction
    x = s["x"] = (1 - c) * x + c * z
    return (1 - mixing) * z + mixing * x


def _warmed(h, t):
    return min(1.0, t / h["warmup_steps"]) if h["warmup_steps"] else 1.0


def schedulefreesgd_step(w, g, s, history):
    return _schedule_free(w, g, _warmed, history[-1]["momentum"], s, history)


def schedulefreeadamw_step(w, g, s, history):
    h = history[-1]
    v = s["v"] = h["beta_2"] * s.get("v", 0.0) + (1 - h["beta_2"]) * g**2
    direction = g / (np.sqrt(v / (1 - product(history, "beta_2"))) + h["epsilon"])
    factor = _warmed
    if h["rectify"]:
        factor = lambda past, t: _rectification(past["beta_2"], t, 4.0) or 0.0  # noqa: E731
    return _schedule_free(w, direction, factor, h["beta_1"], s, history)


_SCHEDULE_FREE = {
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "averaging_power": 0.0,
    "rate_power": 2.0,
}

ALGORITHMS = {
    "sgd": (sgd_step, {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False}),
    "adam": (adam_step, _ADAM | {"amsgrad": False, "nesterov": False, "weight_decay": 0.0}),
    "rmsprop": (
        rmsprop_step,
        {
            "learning_rate": 0.001,
            "rho": 0.9,
            "momentum": 0.0,
            "epsilon": 1e-7,
            "centered": False,
        },
    ),
    "adadelta": (adadelta_step, {"learning_rate": 0.001, "rho": 0.95, "epsilon": 1e-7}),
    "adagrad": (
        adagrad_step,
        {"learning_rate": 0.001, "initial_accumulator_value": 0.1, "epsilon": 1e-7},
    ),
    "adamax": (adamax_step, _ADAM),
    "nadam": (nadam_step, _ADAM),
    "ftrl": (
        ftrl_step,
        {
            "learning_rate": 0.001,
            "learning_rate_power": -0.5,
            "initial_accumulator_value": 0.1,
            "l1_regularization_strength": 0.0,
            "l2_regularization_strength": 0.0,
            "l2_shrinkage_regularization_strength": 0.0,
            "beta": 0.0,
        },
    ),
    "lion": (lion_step, {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.99}),
    "lamb": (
        lamb_step,
        _ADAM | {"weight_decay": 0.0, "decay_in_trust_ratio": False, "adapts": True},
    ),
    "muon": (
        muon_step,
        {
            "learning_rate": 0.001,
            "adam_beta_1": 0.9,
            "adam_beta_2": 0.999,
            "adam_weight_decay": 0.004,
            "adam_lr_ratio": 1.0,
            "epsilon": 1e-7,
            "weight_decay": 0.004,
            "momentum": 0.95,
            "nesterov": True,
            "triples": [(3.4445, -4.775, 2.0315)] * 5,
            "safety": 1.0,
            "spectral": False,
            "neuron_beta": None,
            "axes": None,  # rows, columns, batch; (): not a matrix
        },
    ),
    "soap": (
        soap_step,
        {
            "learning_rate": 0.003,
            "beta_1": 0.95,
            "beta_2": 0.95,
            "epsilon": 1e-8,
            "weight_decay": 0.01,
            "shampoo_beta": None,
            "every": 10,
            "largest_side": 2048,
            "sides": "both",
            "start": "adam",
            "rounds": 0,  # of orthogonal iteration in place of the first eigenvectors
            "axes": None,  # rows, columns, batch; (): not a matrix
        },
    ),
    "shampoo": (
        shampoo_step,
        {
            "learning_rate": 0.001,
            "beta_1": 0.9,
            "beta_2": 0.999,
            "epsilon": 1e-6,
            "weight_decay": 0.0,
            "every": 20,
            "first": 0,  # the step from which on roots are computed
            "block": 1024,
            "grafting": "adam",
            "grafting_epsilon": 1e-8,
            "root": 4,
            "nesterov": False,
            "axes": None,  # as for Soap
        },
    ),
    "adafactor": (
        adafactor_step,
        {
            "learning_rate": 0.001,
            "beta_2_decay": -0.8,
            "epsilon_1": 1e-30,
            "epsilon_2": 1e-3,
            "clip_threshold": 1.0,
            "relative_step": True,
            "scale_parameter": True,
            "beta_1": None,
        },
    ),
    "schedulefreesgd": (
        schedulefreesgd_step,
        _SCHEDULE_FREE | {"learning_rate": 1.0, "momentum": 0.9},
    ),
    "schedulefreeadamw": (
        schedulefreeadamw_step,
        _SCHEDULE_FREE
        | {
            "learning_rate": 0.0025,
            "beta_1": 0.9,
            "beta_2": 0.999,
            "epsilon": 1e-8,
            "rectify": False,
        },
    ),
    "radam": (radam_step, _ADAM | {"threshold": 5.0, "epsilon_after_correction": True}),
    "yogi": (
        yogi_step,
        _ADAM | {"learning_rate": 0.01, "epsilon": 1e-3, "initial_accumulator_value": 1e-6},
    ),
    "adabelief": (adabelief_step, _ADAM | {"epsilon": 1e-16, "rectify": False}),
    "adopt": (
        adopt_step,
        _ADAM | {"beta_2": 0.9999, "epsilon": 1e-6, "clip_power": 0.25, "weight_decay": 0.0},
    ),
    "ademamix": (
        ademamix_step,
        _ADAM | {"beta_3": 0.9999, "alpha": 5.0, "epsilon": 1e-8, "warmup_steps": None},
    ),
    "adan": (
        adan_step,
        {
            "learning_rate": 0.001,
            "beta_1": 0.98,
            "beta_2": 0.92,
            "beta_3": 0.99,
            "epsilon": 1e-8,
            "weight_decay": 0.0,
        },
    ),
    "mars": (
        mars_step,
        {
            "learning_rate": 0.003,
            "beta_1": 0.95,
            "beta_2": 0.99,
            "epsilon": 1e-8,
            "gamma": 0.025,
            "adam_beta_1": 0.9,
            "adam_beta_2": 0.95,
            "weight_decay": 0.0,
        },
    ),
    "came": (
        came_step,
        {
            "learning_rate": 0.0002,
            "beta_1": 0.9,
            "beta_2": 0.999,
            "beta_3": 0.9999,
            "epsilon_1": 1e-30,
            "epsilon_2": 1e-16,
            "clip_threshold": 1.0,
        },
    ),
    "sgld": (sgld_step, {"learning_rate": 0.01, "temperature": 0.0}),
    "psgld": (
        psgld_step,
        {"learning_rate": 0.01, "temperature": 0.0, "rho": 0.99, "epsilon": 1e-5},
    ),
    "sghmc": (sghmc_step, {"learning_rate": 0.01, "temperature": 0.0, "momentum": 0.9}),
    "prodigy": (
        prodigy_step,
        {
            "learning_rate": 1.0,
            "beta_1": 0.9,
            "beta_2": 0.999,
            "beta_3": None,
            "epsilon": 1e-8,
            "weight_decay": 0.0,
            "initial_d": 1e-6,
            "d_coefficient": 1.0,
            "growth_rate": None,
            "use_bias_correction": False,
            "safeguard_warmup": False,
            "every_nth": 1,
        },
    ),
    "lars": (
        lars_step,
        {
            "learning_rate": 0.01,
            "momentum": 0.9,
            "nesterov": False,
            "trust_coefficient": 0.001,
            "epsilon": 0.0,
            "weight_decay": 0.0,
            "adapts": True,
        },
    ),
}


def over_a_list(name):
    """Returns `oracle(w, gradients, learning_rate, first_step, ...)` for an algorithm."""
    step, defaults = ALGORITHMS[name]

    def oracle(w, gradients, learning_rate=defaults["learning_rate"], first_step=1, **given):
        """The weight after all gradients. From another first step on, the moments are new."""
        values = defaults | given | {"learning_rate": learning_rate}
        assert set(values) == set(defaults), f"{name} has no {set(values) - set(defaults)}"
        slots, history = {}, [values] * (first_step - 1)
        for g in gradients[first_step - 1 :]:
            history = [*history, values]
            w = step(w, g, slots, history)
        return w

    return oracle


def __getattr__(name):
    if name in ALGORITHMS:
        return over_a_list(name)
    raise AttributeError(f"there is no algorithm {name!r}: {list(ALGORITHMS)}")
