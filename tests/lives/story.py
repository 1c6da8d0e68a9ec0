"""The order of events of one life: uninterrupted, interrupted, and in float64."""

import contextlib

import numpy as np

from tests.lives import files, models, settings, training
from tests.lives.reference import Reference

_BEGUN = "begun_at_update"


def _optimizer_maker(life, peer):
    return lambda: settings.make_optimizer(life, peer)


def begin(life, peer=False):
    """A new model, compiled."""
    with training.scope(life):
        model = models.make_model(life, life.seed)
        optimizer = settings.make_optimizer(life, peer)
    training.compile_model(life, model, optimizer)
    return model


def _has_event(life):
    return life.event not in ("none", "head", "accumulation_loaded", *models.UNCOMPILED)


def _happen(life, model):
    with training.scope(life):
        if not model.built:
            models.build(life, model)
        if life.event == "weights":  # an average must not hold on to the ones before
            model.optimizer.build(model.trainable_variables)
        models.happen(life, model)
        settings.happen(life, model.optimizer)


def straight(life, directory, peer=False):
    """Lives without an interruption, and saves in the middle.

    Args:
      life: the life.
      directory: where to save.
      peer: with Keras' own optimizer.

    Returns:
      kept: what loading needs besides the directory.
      end: a snapshot of the end.
    """
    first, second, third = np.cumsum(life.epochs)
    chosen = files.FORMATS[life.save]
    model = begin(life, peer)
    trainer = training.Trainer(life, model)
    trainer.train(0, first)
    if _has_event(life):
        _happen(life, model)
        training.compile_model(life, model, model.optimizer)
        trainer = training.Trainer(life, model)
    if chosen.callback:
        trainer.train(first, third, chosen.callback(str(directory)))
        return int(second), snapshot(model)
    trainer.train(first, second)
    models.happen_before_saving(life, model)
    if chosen.save and not model.built:
        with training.scope(life):
            models.build(life, model)
    # A copy is made in the scope, as a model that is loaded is.
    with training.scope(life) if chosen.in_memory else contextlib.nullcontext():
        kept = chosen.save(model, str(directory)) if chosen.save else None
    if life.event == "head":
        with training.scope(life):
            model.optimizer.build(model.trainable_variables)
        return kept, _body(snapshot(model))
    if files.is_without_slots(life):
        return kept, snapshot(model)
    if life.event in (*models.UNCOMPILED, "accumulation_loaded"):
        models.happen_after_saving(life, model)
        settings.happen_after_saving(life, model.optimizer)
        training.compile_model(life, model, model.optimizer)
        trainer = training.Trainer(life, model)
    trainer.train(second, third)
    return kept, snapshot(model)


def policy_at_load(life):
    """The global dtype policy where what was saved is loaded."""
    return life.policy if life.load_policy == "same" else life.load_policy


def resumed(life, directory, kept, peer=False):
    """Loads what `straight` saved, and lives on; returns a snapshot of the end."""
    for _ in range(life.shift):
        models.keras.layers.Dense(1, activation="tanh")

    def make():
        return files.make_reader(life, _optimizer_maker(life, peer))

    model = files.load(life, str(directory), kept, make)
    if life.event == "head":
        return _with_another_head(life, model)
    if files.is_without_slots(life):
        return _thawed(life, model)
    trainer = training.Trainer(life, model)
    first, second, third = np.cumsum(life.epochs)
    start = first if life.save == "backup" else second
    trainer.train(start, third, files.restoring_callbacks(life, str(directory)))
    return snapshot(model)


def _with_another_head(life, model):
    """Trains on; returns a snapshot, from before that, of all but the head."""
    model.optimizer.build(model.trainable_variables)
    loaded = _body(snapshot(model))
    training.Trainer(life, model, models.OTHER_OUTPUTS).train(0, 1)
    for weight in model.get_weights():
        assert np.isfinite(weight.astype("f")).all(), "training goes wrong with another head"
    return loaded


def _thawed(life, model):
    """Trains on with a model that was loaded frozen; returns a snapshot from before that."""
    loaded = snapshot(model)
    models.happen_after_saving(life, model)
    training.compile_model(life, model, model.optimizer)
    trainer = training.Trainer(life, model)
    trainer.train(0, life.epochs[2])
    for weight in model.get_weights():
        assert np.isfinite(weight.astype("f")).all(), "training goes wrong when thawed"
    before, after = (int(found["scalar iterations"]) for found in (loaded, snapshot(model)))
    taken = life.epochs[2] * (life.steps - life.bad)
    assert after - before == taken, f"{after - before} steps of {taken} when thawed"
    return loaded


def _body(found):
    """What belongs to all variables but the last two, a kernel and a bias."""
    last = max(int(name.split()[-1]) for name in found if name.startswith("weight"))
    head = {str(last), str(last - 1)}
    # Where the head's slots begin late, a number says of each other one that it did not.
    others = {n: v for n, v in found.items() if not (_BEGUN in n and np.all(v == 0))}
    return {name: v for name, v in others.items() if name.split()[-1] not in head}


def in_float64(life):
    """Lives in NumPy; returns every weight at the start, and at the end."""
    first, second, third = np.cumsum(life.epochs)
    model = models.make_model(life, life.seed)
    if not model.built:
        models.build(life, model)
    reference = Reference(life, model)
    start = {id(weight): _array(weight).astype("d") for weight in model.weights}
    reference.train(0, first)
    reference.happen()
    if files.is_inside_fit(life):
        reference.train(first, third)
    else:
        reference.train(first, second)
        models.happen_before_saving(life, model)
        reference.happen_after_saving()
        reference.train(second, third)
    # What came later, LoRA say, has no start of its own; it is compared with zero.
    return [start.get(id(w), 0.0) for w in model.weights], reference.weights()


def snapshot(model):
    """Weights, and the optimizer's state by the place of the variable, as arrays by name."""
    found = {f"weight {i}": _array(v) for i, v in enumerate(model.get_weights())}
    optimizer = model.optimizer
    inner = files.inner(optimizer)
    if not hasattr(inner, "state_dict"):  # Keras' own
        return found
    state = inner.state_dict()
    found |= {f"scalar {name}": _array(v) for name, v in state["scalars"].items()}
    if optimizer is not inner and not isinstance(optimizer, settings.tko.LossScaleOptimizer):
        scale = optimizer.dynamic_scale if settings.IS_KERAS_3 else optimizer.loss_scale
        found["scalar loss_scale"] = _array(scale)
    slots = state["variables"]
    paths = [files.path_of(v) for v in model.trainable_variables]
    if len(slots) == len(paths):
        paths = list(slots)  # one order; paths need not be Keras' where names repeat
    for i, path in enumerate(paths):
        for name, value in slots.get(path, {}).items():
            found[f"slot {name} of trainable {i}"] = _array(value)
    found |= {f"extra {name}": _array(v) for name, v in state["extra"].items()}
    return found


def _array(value):
    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    # NumPy's files know no bfloat16; float32 holds it exactly.
    return array.astype("f") if array.dtype.name == "bfloat16" else array
