"""Every way to save a model with its optimizer, and to load it."""

import copy
import dataclasses
import os
import pickle
import shutil
from collections.abc import Callable

import tensorflow as tf

import tf_keras_optim as tko
from tests.lives import models, settings, training
from tests.lives.settings import IS_KERAS_3
from tf_keras_optim.engine.state.paths import by_path

keras = tf.keras
MODEL, WEIGHTS = "model.keras", "model.weights.h5"
# What ModelCheckpoint writes; in Keras 2 without a suffix, in TensorFlow's format.
CHECKPOINTED_WEIGHTS = WEIGHTS if IS_KERAS_3 else "weights"


@dataclasses.dataclass(frozen=True)
class Format:
    """A way to save and to load.

    Attributes:
      save: `save(model, directory)` writes, or returns what is kept in memory.
      load: `load(make, directory, kept)` returns a compiled model; `make()` makes a new one.
      makes_model: the model itself comes from what was saved.
      keeps_mode: what was saved says how the model was compiled.
      in_memory: only the same process can load it.
      partly: whether `load` must be told that other variables are trainable now than when
        the optimizer was last compiled.
      hdf5: whether the arrays are in an HDF5 file.
      callback: what writes it while `fit` runs, given the directory; `save` is not called.
      keras: the generations that have it.
    """

    save: Callable | None
    load: Callable
    makes_model: bool = False
    keeps_mode: bool = True
    in_memory: bool = False
    partly: bool = False
    hdf5: bool = False
    callback: Callable | None = None
    keras: tuple[int, ...] = (2, 3)


def path(directory, name):
    return os.path.join(directory, name)


def _load_weights(directory, make, name=WEIGHTS, load=None, partly=False):
    model = make()
    if load:
        load(model, path(directory, name))
    else:
        further = {"skip_mismatch": True} if partly and name.endswith(".h5") else {}
        status = model.load_weights(path(directory, name), **further)
        if status is not None:  # TensorFlow's format, in Keras 2
            (status.expect_partial if partly else status.assert_existing_objects_matched)()
    return model


def _checkpoint(model):
    return tf.train.Checkpoint(model=model, optimizer=model.optimizer)


def _load_checkpoint(make, directory, kept, partly=False):
    model = make()
    status = _checkpoint(model).read(path(directory, "checkpoint"))
    if partly:
        status.expect_partial()
    elif inner(model.optimizer).built:
        status.assert_consumed()
    else:
        status.assert_existing_objects_matched()
    return model


def path_of(variable):
    """The path of a variable, under both Kerases."""
    return getattr(variable, "path", None) or variable.name.split(":")[0]


def inner(optimizer):
    """The optimizer inside a LossScaleOptimizer, or itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _save_state(model, directory):
    tko.save_state(path(directory, "state.npz"), model.optimizer, model.variables)
    # Under other automatic names, the reader says which variable is which.
    with open(path(directory, "names.pickle"), "wb") as file:
        pickle.dump(list(by_path(model.variables)), file)


def _load_state(make, directory, kept, partly=False):
    model = make()
    with open(path(directory, "names.pickle"), "rb") as file:
        saved = pickle.load(file)
    names = dict(zip(saved, by_path(model.variables)))
    file, strict, optimizer = path(directory, "state.npz"), not partly, model.optimizer
    if not isinstance(optimizer, (tko.Optimizer, tko.LossScaleOptimizer)):
        optimizer = inner(optimizer)  # Keras' own wrapper, which another policy calls for
    tko.load_state(file, optimizer, model.variables, names=names, strict=strict)
    return model


def _load_dict(make, directory, kept, partly=False):
    weights, state = kept
    model = make()
    model.set_weights(weights)
    inner(model.optimizer).load_state_dict(state, strict=not partly)
    return model


def _pickle(model, directory):
    with open(path(directory, "model.pickle"), "wb") as file:
        pickle.dump(model, file)


def _unpickle(make, directory, kept):
    with open(path(directory, "model.pickle"), "rb") as file:
        return pickle.load(file)


def _checkpoint_callback(name, weights_only):
    def make(directory):
        # One file for each epoch; `load` reads the one of the last epoch before saving.
        stem, dot, suffix = name.partition(".")
        target = path(directory, f"{stem}_{{epoch}}{dot}{suffix}")
        return [keras.callbacks.ModelCheckpoint(target, save_weights_only=weights_only)]

    return make


class _Keep(keras.callbacks.Callback):
    """Copies a directory at the end of each epoch, as a process that is killed leaves it."""

    def __init__(self, source, target):
        super().__init__()
        self._source, self._target = source, target

    def on_epoch_end(self, epoch, logs=None):
        shutil.copytree(self._source, f"{self._target}_{epoch + 1}")


def _backup(directory):
    backup, kept = path(directory, "running"), path(directory, "backup")
    return [keras.callbacks.BackupAndRestore(backup), _Keep(backup, kept)]


def _model_format(**further):
    return Format(makes_model=True, **further)


FORMATS = {
    "none": Format(None, None),
    "keras": _model_format(
        hdf5=True,
        save=lambda model, directory: model.save(path(directory, MODEL)),
        load=lambda make, directory, kept: keras.models.load_model(path(directory, MODEL)),
    ),
    "tko_model": _model_format(
        hdf5=True,
        save=lambda model, directory: tko.save_model(model, path(directory, MODEL)),
        load=lambda make, directory, kept: tko.load_model(path(directory, MODEL)),
    ),
    "weights": Format(
        hdf5=True,
        save=lambda model, directory: model.save_weights(path(directory, WEIGHTS)),
        load=lambda make, directory, kept, partly=False: _load_weights(
            directory, make, partly=partly
        ),
    ),
    "tko_weights": Format(
        hdf5=True,
        save=lambda model, directory: tko.save_weights(model, path(directory, WEIGHTS)),
        load=lambda make, directory, kept: _load_weights(
            directory, make, load=tko.load_weights
        ),
    ),
    "tf_weights": Format(
        save=lambda model, directory: model.save_weights(path(directory, "weights")),
        load=lambda make, directory, kept, partly=False: _load_weights(
            directory, make, "weights", partly=partly
        ),
        partly=True,
        keras=(2,),
    ),
    "checkpoint": Format(
        save=lambda model, directory: _checkpoint(model).write(path(directory, "checkpoint")),
        load=_load_checkpoint,
        partly=True,
    ),
    "state": Format(save=_save_state, load=_load_state, partly=True),
    "state_dict": Format(
        save=lambda model, directory: (
            model.get_weights(),
            inner(model.optimizer).state_dict(),
        ),
        load=_load_dict,
        in_memory=True,
        partly=True,
    ),
    "pickle": _model_format(hdf5=True, save=_pickle, load=_unpickle),
    "deepcopy": _model_format(
        hdf5=True,
        save=lambda model, directory: copy.deepcopy(model),
        load=lambda make, directory, kept: kept,
        in_memory=True,
    ),
    "h5": _model_format(
        hdf5=True,
        save=lambda model, directory: model.save(path(directory, "model.h5")),
        load=lambda make, directory, kept: keras.models.load_model(path(directory, "model.h5")),
        keeps_mode=False,
        keras=(2,),
    ),
    "savedmodel": _model_format(
        save=lambda model, directory: model.save(path(directory, "model")),
        load=lambda make, directory, kept: keras.models.load_model(path(directory, "model")),
        keeps_mode=False,
        keras=(2,),
    ),
    "callback_model": _model_format(
        hdf5=True,
        save=None,
        load=lambda make, directory, kept: keras.models.load_model(
            path(directory, f"model_{kept}.keras")
        ),
        callback=_checkpoint_callback(MODEL, False),
    ),
    "callback_weights": Format(
        save=None,
        load=lambda make, directory, kept: _load_weights(
            directory,
            make,
            CHECKPOINTED_WEIGHTS.replace(".", f"_{kept}.", 1)
            if "." in CHECKPOINTED_WEIGHTS
            else f"{CHECKPOINTED_WEIGHTS}_{kept}",
        ),
        callback=_checkpoint_callback(CHECKPOINTED_WEIGHTS, True),
    ),
    "backup": Format(
        save=None,
        load=lambda make, directory, kept: make(),  # the callback loads when `fit` starts
        callback=_backup,
    ),
}


def is_inside_fit(life):
    """Whether a callback saves, so that the second part and the third are one `fit`."""
    return FORMATS[life.save].callback is not None


def restoring_callbacks(life, directory):
    """Callbacks of the `fit` that goes on: BackupAndRestore loads when it begins."""
    if life.save != "backup":
        return []
    return [keras.callbacks.BackupAndRestore(path(directory, f"backup_{sum(life.epochs[:2])}"))]


def is_without_slots(life):
    """Whether the optimizer is built as it is loaded, for a model with nothing to train.

    What was saved for variables that are not trainable is left out then. Elsewhere it waits.
    """
    return life.event == "freeze_model_uncompiled" and FORMATS[life.save].makes_model


def is_partly(life):
    """Whether the saved state is, by intent, not that of the optimizer which loads it."""
    if not FORMATS[life.save].partly:
        return life.event == "head"
    if life.event == "freeze_model_uncompiled":
        return False
    # A checkpoint of TensorFlow holds what was there: no slots before the first step.
    unknown = life.save in ("checkpoint", "tf_weights") and not sum(life.epochs[:2])
    # Slots of layers that became trainable are made by the next step.
    new = life.event in ("unfreeze", "lora") and not life.epochs[1]
    # Nor has it sums of gradients, where the optimizer that loads it accumulates alone.
    sums = life.event == "accumulation_loaded" and life.save in ("checkpoint", "tf_weights")
    return unknown or new or sums or life.event in ("freeze", "lora", *models.UNCOMPILED)


def load(life, directory, kept, make):
    """Returns the compiled model that goes on.

    Args:
      life: the life.
      directory: where it was saved.
      kept: what was kept in memory, or the number of the epoch that a callback saved.
      make: makes a new model, compiled.
    """
    chosen = FORMATS[life.save]
    further = {"partly": True} if is_partly(life) else {}
    with training.scope(life):
        model = chosen.load(make, directory, kept, **further)
    if not is_without_slots(life):
        models.happen_after_saving(life, model)
    if not chosen.keeps_mode or life.event in models.UNCOMPILED:
        training.compile_model(life, model, model.optimizer)
    if life.loop == "fit_eager":
        model.run_eagerly = True  # Keras does not save it
    return model


def make_reader(life, make_optimizer):
    """A new model for what was saved, with other weights, as the saved one stood at the end."""
    with training.scope(life):
        outputs = models.OTHER_OUTPUTS if life.event == "head" else models.OUTPUTS
        model = models.make_model(life, life.seed + 1, outputs)
        if life.model in ("unbuilt", "subclass"):
            models.build(life, model)
        models.happen(life, model)
        models.happen_before_saving(life, model)
        optimizer = make_optimizer()
        training.compile_model(life, model, optimizer)
        settings.happen(life, model.optimizer, in_training=False)
        settings.happen_after_saving(life, model.optimizer)
        if life.built:
            model.optimizer.build(model.trainable_variables)
    return model
