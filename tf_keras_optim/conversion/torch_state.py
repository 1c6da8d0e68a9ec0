"""What is known of a PyTorch optimizer from its `state_dict()`; PyTorch is not imported."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

import tf_keras_optim.conversion.configs as configs
import tf_keras_optim.optimizers as optimizers
from tf_keras_optim.conversion.source import Source
from tf_keras_optim.engine.hyperparameters import nearest

_HOW_IT_RUNS = ("params", "param_names", "foreach", "fused", "capturable", "differentiable")
_NOT_USED = ("initial_lr", "maximize", "decoupled_weight_decay", "swa_lr")
_COMMON = (*_HOW_IT_RUNS, *_NOT_USED, "lr", "weight_decay")


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a class of `torch.optim` becomes one of ours.

    Attributes:
      cls: our class.
      slots: our slots by its names.
      arguments: our arguments from its parameter group.
      groups: the keys of that group that are known.
      times_rate: factor that, times the learning rate, makes its buffer ours.
      times: the same without the rate, from its parameter group.
      decoupled: whether its weight decay is, where the group does not say.
    """

    cls: type
    slots: Mapping[str, str]
    arguments: Callable[[Mapping[str, Any]], dict[str, Any]]
    groups: tuple[str, ...]
    times_rate: Mapping[str, float] = dataclasses.field(default_factory=dict)
    times: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda group: {}
    decoupled: bool = False


def _betas(group: Mapping[str, Any]) -> dict[str, float]:
    first, second = group["betas"]
    return {"beta_1": number(first), "beta_2": number(second), "epsilon": number(group["eps"])}


def _sgd(group: Mapping[str, Any]) -> dict[str, Any]:
    return {"momentum": number(group["momentum"]), "nesterov": bool(group["nesterov"])}


def _adam(group: Mapping[str, Any]) -> dict[str, Any]:
    form = {"amsgrad": bool(group["amsgrad"]), "epsilon_after_correction": True}
    return _betas(group) | form


def _adamax(group: Mapping[str, Any]) -> dict[str, Any]:
    return _betas(group) | {"epsilon_in_norm": True}


def _nadam(group: Mapping[str, Any]) -> dict[str, Any]:
    return _betas(group) | {"momentum_decay": number(group["momentum_decay"])}


def _radam(group: Mapping[str, Any]) -> dict[str, Any]:
    return _betas(group) | {"epsilon_after_correction": False}


def _rmsprop(group: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "rho": number(group["alpha"]),
        "momentum": number(group["momentum"]),
        "centered": bool(group["centered"]),
        "epsilon": number(group["eps"]),
        "epsilon_inside_root": False,
    }


def _adagrad(group: Mapping[str, Any]) -> dict[str, Any]:
    start = number(group["initial_accumulator_value"])
    form = {"initial_accumulator_value": start, "epsilon_inside_root": False}
    return {"epsilon": number(group["eps"])} | form


def _adadelta(group: Mapping[str, Any]) -> dict[str, Any]:
    return {"rho": number(group["rho"]), "epsilon": number(group["eps"])}


def _muon(group: Mapping[str, Any]) -> dict[str, Any]:
    """All its parameters are matrices.

    Raises:
      ValueError: an option has no counterpart.
    """
    only = {"eps": (1e-7,), "adjust_lr_fn": tuple(_MUON_SCALES)}
    for name, values in only.items():
        if group[name] not in values:
            raise ValueError(
                f"torch.optim.Muon: `{name}`={group[name]!r} has no counterpart; one of "
                f"{', '.join(map(repr, values))} can be converted."
            )
    a, b, c = map(number, group["ns_coefficients"])
    return {
        **{"matrices": "rank_2", "output": None, "exclude_embeddings": False},
        **{"muon_a": a, "muon_b": b, "muon_c": c, "ns_steps": int(number(group["ns_steps"]))},
        "momentum": number(group["momentum"]),
        "nesterov": bool(group["nesterov"]),
        "scale": _MUON_SCALES[group["adjust_lr_fn"]],
    }


def _sum_of_mean(group: Mapping[str, Any]) -> dict[str, float]:
    """Ours holds the sum of gradients that fade, theirs their mean."""
    return {"momentum_buffer": 1.0 / (1.0 - number(group["momentum"]))}


_MUON_SCALES = {None: "spectral", "original": "spectral", "match_rms_adamw": "rms"}
_MUON_GROUP = ("momentum", "nesterov", "ns_coefficients", "eps", "ns_steps", "adjust_lr_fn")
_MOMENTS = {"exp_avg": "momentum", "exp_avg_sq": "velocity"}
_ADAM_SLOTS = _MOMENTS | {"max_exp_avg_sq": "velocity_hat"}
_ADAM_GROUP = ("betas", "eps", "amsgrad")
RULES = {
    "SGD": Rule(
        optimizers.SGD,
        {"momentum_buffer": "momentum"},
        _sgd,
        ("momentum", "dampening", "nesterov"),
        {"momentum_buffer": -1.0},  # ours holds the step, theirs the direction
    ),
    "Adam": Rule(optimizers.Adam, _ADAM_SLOTS, _adam, _ADAM_GROUP),
    "AdamW": Rule(optimizers.AdamW, _ADAM_SLOTS, _adam, _ADAM_GROUP, decoupled=True),
    "Adagrad": Rule(
        optimizers.Adagrad,
        {"sum": "accumulator"},
        _adagrad,
        ("lr_decay", "eps", "initial_accumulator_value"),
    ),
    "RMSprop": Rule(
        optimizers.RMSprop,
        {
            "square_avg": "velocity",
            "momentum_buffer": "momentum",
            "grad_avg": "average_gradient",
        },
        _rmsprop,
        ("alpha", "momentum", "centered", "eps"),
        {"momentum_buffer": 1.0},
    ),
    "Adamax": Rule(
        optimizers.Adamax, {"exp_avg": "momentum", "exp_inf": "norm"}, _adamax, ("betas", "eps")
    ),
    "Muon": Rule(
        optimizers.Muon,
        {"momentum_buffer": "momentum"},
        _muon,
        _MUON_GROUP,
        times=_sum_of_mean,
        decoupled=True,
    ),
    "NAdam": Rule(optimizers.Nadam, _MOMENTS, _nadam, ("betas", "eps", "momentum_decay")),
    "RAdam": Rule(optimizers.RAdam, _MOMENTS, _radam, ("betas", "eps")),
    "Adadelta": Rule(
        optimizers.Adadelta,
        {"square_avg": "accumulated_grad", "acc_delta": "accumulated_delta_var"},
        _adadelta,
        ("rho", "eps"),
    ),
}


def is_state_dict(value: Any) -> bool:
    """Says whether a value looks like the `state_dict()` of a PyTorch optimizer."""
    return isinstance(value, Mapping) and {"state", "param_groups"} <= set(value)


def array(value: Any) -> np.ndarray:
    """Returns a tensor of PyTorch, or what NumPy takes, as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        value = value.numpy()
    return np.asarray(value)


def number(value: Any) -> float:
    """Returns a number that may be a 0-d tensor."""
    return float(array(value))


def from_torch(
    state: Mapping[str, Any],
    class_name: Any,
    variables: Any,
    transpose: Any,
) -> tuple[Source, list[Any] | None]:
    """Returns what is known of a PyTorch optimizer, and the variables in our order.

    Args:
      state: what its `state_dict()` returned, of tensors or arrays.
      class_name: the name of its class, e.g. "AdamW".
      variables: the variables in the order of its parameters, or a dict from its
        parameters (numbers, or names where the state has them) to variables, or `None`.
      transpose: see `convert`.

    Raises:
      ValueError: the class or an option is not supported, or the state does not fit.
    """
    if not isinstance(class_name, str) or class_name not in RULES:
        close = nearest(str(class_name), RULES)
        raise ValueError(
            "A PyTorch state does not say its class: pass `optimizer=` with the name of one of "
            f"{', '.join(RULES)}. Received: optimizer={class_name!r}.{close}"
        )
    title = f"torch.optim.{class_name}"
    rule = RULES[class_name]
    groups = list(state["param_groups"])
    arguments = _arguments(rule, class_name, groups, title)
    numbers = [index for group in groups for index in group["params"]]
    names = [name for group in groups for name in group.get("param_names", ())]
    keys, chosen = _ordered(numbers, names, variables, title)
    source = Source(title, rule.cls, arguments)
    if any(number(group["weight_decay"]) for group in groups):
        idle = {i for g in groups if not number(g["weight_decay"]) for i in g["params"]}
        source.decays = [key not in idle for key in keys]
    entries = state["state"]
    if not entries and not (class_name == "SGD" and not arguments["momentum"]):
        return source, chosen
    axes = _axes(transpose, numbers, names, title)
    rate = number(groups[0]["lr"])
    times = {name: factor * rate for name, factor in rule.times_rate.items()}
    times |= rule.times(groups[0])
    shapes = [tuple(v.shape) for v in chosen] if chosen is not None else [None] * len(keys)
    source.slots = [
        _slots(rule, entries.get(key), key, axes, times, shape, title)
        for key, shape in zip(keys, shapes)
    ]
    _add_scalars(source, entries, title)
    return source, chosen


def _arguments(
    rule: Rule, name: str, groups: list[Mapping[str, Any]], title: str
) -> dict[str, Any]:
    """Returns our arguments; the groups may differ in whether they decay.

    Raises:
      ValueError: an option has no counterpart, or groups differ.
    """
    group = groups[0]
    _refuse_unsupported(rule, group, title)
    own = {key for g in groups for key in g} - {*_HOW_IT_RUNS, "initial_lr", "weight_decay"}
    for key in sorted(own):
        values = [g.get(key) for g in groups]
        if any(repr(value) != repr(values[0]) for value in values):
            raise ValueError(
                f"{title}: its parameter groups differ in {key!r}: {values}. An optimizer here "
                "has one value for all variables; convert the groups one by one."
            )
    decays = {number(g["weight_decay"]) for g in groups} - {0.0}
    if len(decays) > 1:
        raise ValueError(
            f"{title}: its parameter groups have the weight decays {sorted(decays)}. One "
            "value, and 0 for variables without, can be converted."
        )
    arguments = rule.arguments(group)
    rate = number(group["lr"])
    arguments["learning_rate"] = rate
    if group.get("lr_decay"):
        decaying = configs.decaying(rate, number(group["lr_decay"]), title)
        arguments["learning_rate"] = decaying
    decay = decays.pop() if decays else None
    decoupled = group.get("decoupled_weight_decay", rule.decoupled)
    arguments["weight_decay"] = (decay or 0.0) if rule.decoupled else decay
    if decay and not decoupled:
        arguments["decoupled_weight_decay"] = False
    return arguments


def _refuse_unsupported(rule: Rule, group: Mapping[str, Any], title: str) -> None:
    missing = {"lr", "weight_decay", *rule.groups} - set(group)
    unknown = set(group) - {*_COMMON, *rule.groups}
    if missing or unknown:
        raise ValueError(
            f"{title}: its parameter group has the keys {sorted(group)}; missing: "
            f"{sorted(missing)}, unknown: {sorted(unknown)}. Is `optimizer` the right class?"
        )
    if group.get("maximize"):
        raise ValueError(
            f"{title}: `maximize`=True has no counterpart. Minimize the negated loss."
        )
    if group.get("dampening") and number(group["momentum"]):
        raise ValueError(
            f"{title}: `dampening`={group['dampening']} scales each gradient in the momentum "
            "and has no counterpart. Only dampening=0 can be converted."
        )


def _ordered(
    numbers: list[Any], names: list[str], variables: Any, title: str
) -> tuple[list[Any], list[Any] | None]:
    """Returns the parameters' numbers in our order, and the variables."""
    if variables is None:
        return numbers, None
    if not isinstance(variables, Mapping):
        chosen = list(variables)
        if len(chosen) != len(numbers):
            raise ValueError(
                f"{title}: it has {len(numbers)} parameters, but `variables` has "
                f"{len(chosen)}. Give one for each, in the order of its parameters."
            )
        return numbers, chosen
    by_name = dict(zip(names, numbers))
    keys = [by_name.get(key, key) for key in variables]
    missing = [key for key in numbers if key not in keys]
    unknown = [k for k, key in zip(variables, keys) if key not in numbers]
    if missing or unknown:
        raise ValueError(
            f"{title}: argument `variables` must name each of its parameters "
            f"{names or numbers}. Missing: {missing}; unknown: {unknown}."
        )
    return keys, list(variables.values())


def _axes(
    transpose: Any, numbers: list[Any], names: list[str], title: str
) -> Callable[[Any, int], tuple[int, ...] | None]:
    """Returns a function from a parameter and its rank to the order of its axes."""
    if isinstance(transpose, bool):
        return lambda key, rank: (1, 0) if transpose and rank == 2 else None
    by_name = dict(zip(names, numbers))
    given: Collection[Any] = transpose
    unknown = [key for key in given if by_name.get(key, key) not in numbers]
    if unknown:
        raise ValueError(
            f"{title}: argument `transpose` names {unknown}, which are none of its parameters "
            f"{names or numbers}."
        )
    mapped = transpose if isinstance(transpose, Mapping) else dict.fromkeys(given)
    orders = {by_name.get(key, key): axes for key, axes in mapped.items()}

    def axes(key: Any, rank: int) -> tuple[int, ...] | None:
        if key not in orders:
            return None
        return tuple(orders[key] or reversed(range(rank)))

    return axes


def _slots(
    rule: Rule,
    entry: Mapping[str, Any] | None,
    key: Any,
    axes: Callable[[Any, int], tuple[int, ...] | None],
    times: Mapping[str, float],
    shape: tuple[int, ...] | None,
    title: str,
) -> dict[str, np.ndarray]:
    """Returns our slots of one parameter."""
    if entry is None:
        entry = {}
    found = {}
    for name, slot in rule.slots.items():
        if entry.get(name) is None:
            continue
        value = array(entry[name])
        order = axes(key, value.ndim)
        if order is not None:
            value = value.transpose(order)
        if name in times:
            if times[name] == 0.0 and value.any():
                raise ValueError(
                    f"{title}: its learning rate is 0, so its {name!r} cannot be turned into "
                    "ours, which is multiplied by the rate. Set the rate first."
                )
            value = value * np.asarray(times[name], value.dtype)
        found[slot] = value
    if "momentum_buffer" in entry and entry["momentum_buffer"] is None and shape is not None:
        found["momentum"] = np.zeros(shape, np.float32)  # no step was made yet
    return found


def _add_scalars(source: Source, entries: Mapping[Any, Mapping[str, Any]], title: str) -> None:
    """Adds the count of steps, and NAdam's product, which parameters must share."""
    for theirs, ours in (("step", "iterations"), ("mu_product", "u_product")):
        values = {number(entry[theirs]) for entry in entries.values() if theirs in entry}
        if len(values) > 1:
            raise ValueError(
                f"{title}: its parameters have different values of {theirs!r}: "
                f"{sorted(values)}. An optimizer here counts once for all variables."
            )
        if values:
            value = values.pop()
            source.scalars[ours] = int(value) if ours == "iterations" else value
