"""What may be drawn: every field by itself, then what does not go together is drawn again."""

import dataclasses
import random

from tests.lives import files, models, settings, training
from tests.lives.life import Life

_CALLBACKS = ("none", "none", "none", "scheduler", "plateau", "swap")
_EVENTS = (*("none",) * 5, *models.EVENTS)
_MISSING = ("is_none", "unlisted")
_MIXED = ("float32", "mixed_float16", "mixed_bfloat16")
_POLICIES = (*("float32",) * 6, "float64", "mixed_float16", "mixed_bfloat16", "bfloat16")


# What seldom meets by chance: fields that one life in three has together.
_WINDOWS = ("accumulate2", "accumulate3")
_OF_EMA = ("ema", "ema_overwrite", "ema_warm", "equal")


def _without_update(choose, life):
    """Other weights, then an epoch that is shorter than the window of accumulation."""
    return {
        "options": _with(life, choose(_OF_EMA), "accumulate3"),
        "event": choose(("weights", "weights", "none")),
        "epochs": (0, 1, choose((1, 2))),
        "steps": 2,
        "loop": choose(("fit", "fit_nojit", "fit_eager")),
    }


def _missing(choose, life):
    return {
        "options": _with(life, choose(_WINDOWS)),
        "missing": choose(_MISSING),
        "loop": choose(("own", "own_function", "own_xla")),
        "event": "none",
        "callback": "none",
    }


def _frozen(choose, life):
    return {"event": choose(models.UNCOMPILED), "epochs": (life.epochs[0], 1, life.epochs[2])}


def _other_window(choose, life):
    event = choose(("accumulation", "accumulation_loaded"))
    return {"options": _with(life, choose(_WINDOWS)), "event": event}


def _betas(choose, life):
    names = [name for name, (_, known) in settings.VARIANTS.items() if "scheduled" in known]
    return {"optimizer": choose(names), "variant": "scheduled"}


def _placed(choose, life):
    return {"strategy": choose(training.STRATEGIES[1:])}


_TOGETHER = (_without_update, _missing, _frozen, _other_window, _betas, _placed)


def _with(life, *options):
    """The options of a life with others, in place of those that exclude these."""
    kept = [o for o in life.options if not o.startswith(("ema", "equal", "accumulate"))]
    return tuple(sorted({*kept, *options}))


def draw(seed):
    """The life of a seed: the same in every process under one Keras."""
    generator = random.Random(f"life {seed}")
    together = generator.choice((*_TOGETHER, *(None,) * 2 * len(_TOGETHER)))
    while True:
        life = _draw(generator, seed)
        if together:
            life = dataclasses.replace(life, **together(generator.choice, life))
        if not reasons_against(life):
            return life


def _draw(generator, seed):
    choose = generator.choice
    optimizer = choose(list(settings.VARIANTS))
    options = generator.sample(list(settings.OPTIONS), choose((0, 0, 1, 1, 2, 2, 3, 4)))
    return Life(
        model=choose([*models.MODELS, "unbuilt", "embedding"]),
        optimizer=optimizer,
        variant=choose(list(settings.VARIANTS[optimizer][1])),
        options=tuple(sorted(options)),
        rate=choose(["constant", "constant", *settings.SCHEDULES]),
        policy=choose(_POLICIES),
        wrapper=choose(("none", "none", "none", "scale", "keras")),
        strategy=choose((*("none",) * 5, "mirrored", *training.STRATEGIES[1:])),
        loop=choose(list(training.LOOPS)),
        event=choose(_EVENTS),
        missing=choose((*("none",) * 10, *_MISSING)),
        bad=choose((False,) * 3 + (True,)),
        callback=choose(_CALLBACKS),
        epochs=(choose((0, 1, 2)), choose((0, 1, 1)), choose((1, 2))),
        steps=choose((2, 3)),
        save=choose([name for name in files.FORMATS if name != "none"]),
        where=choose(("same", "process")),
        shift=choose((0, 0, 1, 3)),
        built=choose((False, True)),
        load_policy=choose((*("same",) * 9, *_MIXED)),
        seed=seed,
    )


def reasons_against(life):
    """Why a life cannot be lived, as lines; none if it can."""
    return [reason for applies, reason in _RULES if applies(life)]


def _has(*options):
    return lambda life: any(option in life.options for option in options)


def _several(*options):
    return lambda life: sum(option in life.options for option in options) > 1


def _narrow(life):
    return life.policy in ("bfloat16", "float16")


def _skips(life):
    return "skip" in life.options or life.wrapper != "none"


_OWN = ("own", "own_function", "own_xla", "minimize")

# What the package refuses by design, with an error that says so.
_REFUSED = [
    (_several("clipnorm", "clipvalue", "global_clipnorm"), "one clip at most"),
    (_several("decay", "decay_scheduled", "l2"), "one weight decay at most"),
    (_several(*_OF_EMA), "one average at most"),
    (
        lambda life: (
            life.optimizer in settings.AVERAGES_ITSELF and _has(*_OF_EMA, "lookahead")(life)
        ),
        "an algorithm that averages by itself takes no other average",
    ),
    (_several("accumulate2", "accumulate3"), "one number of accumulated steps"),
    (_several("slots_bfloat16", "slots_int8"), "one dtype of slots"),
    (_several("jit", "no_jit"), "one mode of compilation"),
    (
        lambda life: (
            _has("lazy")(life)
            and (
                life.model != "embedding"
                or life.optimizer in settings.NOT_ELEMENTWISE
                or _has(*_WINDOWS, "ema_overwrite", "lookahead", "slots_int8")(life)
            )
        ),
        "lazy rows are for embeddings, elementwise algorithms, without accumulation, 8 bits, "
        "Lookahead or averages that overwrite",
    ),
    (
        lambda life: life.wrapper != "none" and _has("skip", "factor")(life),
        "LossScaleOptimizer takes these over",
    ),
    (
        lambda life: life.load_policy == "mixed_float16" and _has("factor")(life),
        "Keras' own LossScaleOptimizer, which that policy calls for, excludes it",
    ),
    (
        lambda life: (
            _has("slots_int8")(life)
            and (
                life.optimizer not in settings.EIGHT_BIT
                or (life.optimizer == "SGD" and life.variant == "plain")
                or life.variant == "amsgrad"
            )
        ),
        "no slot of it may be kept in 8 bits",
    ),
    (
        lambda life: (
            _has("l2")(life)
            and (
                life.optimizer in settings.WITHOUT_L2
                or "decay_in_trust_ratio" in settings.VARIANTS[life.optimizer][1][life.variant]
            )
        ),
        "an update that decays by itself has no L2 penalty",
    ),
    (
        lambda life: (
            _has("rounding", "no_master")(life) and life.optimizer in settings.NEEDS_MASTERS
        ),
        "it needs the copy",
    ),
]

# What would say nothing.
_EMPTY = [
    (
        lambda life: _has("rounding", "no_master")(life) and not _narrow(life),
        "only for weights of 16 bits",
    ),
    (_several("rounding", "no_master"), "rounding by chance is without a copy anyway"),
    (
        lambda life: (
            _has("exclude")(life)
            and not (_has("decay", "decay_scheduled", "l2")(life) or life.optimizer == "AdamW")
        ),
        "exclusions need a decay",
    ),
    (lambda life: life.bad and not _skips(life), "NaN is for lives that skip it"),
    (
        lambda life: life.bad and life.callback in ("plateau", "swap"),
        "the loss of an epoch is NaN",
    ),
    (
        lambda life: life.missing != "none" and (life.loop not in _OWN or life.event != "none"),
        "only an own loop leaves gradients out, and it names the variable by its place",
    ),
    (lambda life: life.missing != "none" and life.loop == "minimize", "minimize computes all"),
    (
        lambda life: life.wrapper == "scale" and life.policy in ("float64",),
        "a loss scale is for narrower numbers",
    ),
    (
        lambda life: (
            _has("slots_int8")(life)
            and life.model not in ("functional", "sequential", "unbuilt", "nested")
        ),
        "the model has no variable that is large enough for 8 bits",
    ),
    (
        lambda life: (
            life.callback == "swap" and (not _has("ema")(life) or not settings.IS_KERAS_3)
        ),
        "SwapEMAWeights swaps averages, in Keras 3",
    ),
    (
        lambda life: life.callback != "none" and not training.is_fit(life),
        "callbacks are for fit",
    ),
    (
        lambda life: (
            files.is_inside_fit(life) and (not training.is_fit(life) or life.epochs[1] == 0)
        ),
        "callbacks save at the end of an epoch of fit",
    ),
    (
        lambda life: files.is_inside_fit(life) and life.event in models.UNCOMPILED,
        "nothing happens between the last epoch and saving",
    ),
    (
        lambda life: (
            files.FORMATS[life.save].partly
            and files.is_partly(life)
            and life.event != "none"
            and not life.built
        ),
        "loading a part needs to know what is there",
    ),
    (
        lambda life: (
            training.has_replicas(life)
            and life.loop in ("fit_eager", "own")
            and (max(life.epochs) > 1 or life.steps > 2)
        ),
        "eager replicas take a second for each step: short lives only",
    ),
    (
        lambda life: files.FORMATS[life.save].in_memory and life.where == "process",
        "what is in memory is in this process",
    ),
    (
        lambda life: life.built and files.FORMATS[life.save].makes_model,
        "the loaded optimizer comes with the file",
    ),
]

# What belongs to one event or policy.
_OTHER_READERS = [
    (
        lambda life: life.event == "freeze_model_uncompiled" and life.built,
        "an optimizer is not built for a model that has nothing to train",
    ),
    (
        lambda life: (
            life.event == "freeze_model_uncompiled"
            and life.policy == "float64"
            and (life.optimizer == "Nadam" or life.variant == "scheduled")
        ),
        "what is carried from step to step is float32 where there is no variable to train",
    ),
    (
        lambda life: (
            life.load_policy != "same"
            and (life.policy == life.load_policy or life.policy not in _MIXED)
        ),
        "another policy at loading is another of the mixed ones",
    ),
    (
        lambda life: (
            life.load_policy != "same"
            and (life.where == "same" and files.FORMATS[life.save].in_memory)
        ),
        "what stays in memory keeps its policy",
    ),
    (
        lambda life: life.load_policy != "same" and life.optimizer == "Lion",
        "a sign may change with the last bit of a gradient of 16 bits",
    ),
    (
        lambda life: (
            life.strategy == "central"
            and "mixed_float16" in (life.policy, life.load_policy)
            and life.wrapper != "scale"
        ),
        "Keras' own loss scale writes its counters in a replica, which shared ones refuse",
    ),
    (
        lambda life: (
            life.strategy == "central"
            and "mixed_float16" in (life.policy, life.load_policy)
            and not settings.IS_KERAS_3
        ),
        "Keras 2 refuses mixed_float16 there",
    ),
    (
        lambda life: (
            life.strategy == "central" and life.save == "backup" and not settings.IS_KERAS_3
        ),
        "Keras 2's BackupAndRestore refuses it",
    ),
    (
        lambda life: (
            life.wrapper == "keras"
            and life.bad
            and files.FORMATS[life.save].hdf5
            and not settings.IS_KERAS_3
        ),
        "Keras 2's own wrapper does not write its scale into HDF5 files",
    ),
    (
        lambda life: (
            life.load_policy == "mixed_float16" and life.wrapper == "none" and life.loop in _OWN
        ),
        "an own loop without a scale is not one for mixed_float16",
    ),
    (
        lambda life: (
            life.load_policy != "same" and life.wrapper == "keras" and life.loop in _OWN
        ),
        "an own loop with a scale is one for mixed_float16",
    ),
    (
        lambda life: (
            life.event == "head" and (life.save != "weights" or life.load_policy != "same")
        ),
        "skip_mismatch is an argument of load_weights",
    ),
    (
        lambda life: life.event == "head" and life.missing != "none",
        "missing gradients are named by place",
    ),
    (
        lambda life: (
            life.event == "accumulation_loaded"
            and (
                settings.is_window_open(life, 2)
                or files.is_inside_fit(life)
                or files.FORMATS[life.save].makes_model
                or life.load_policy != "same"
            )
        ),
        "another number of accumulated steps is for optimizers that are made anew, between two "
        "updates",
    ),
    (
        lambda life: life.event.startswith("accumulation") and life.wrapper == "keras",
        "a scale that starts too high skips calls, so that windows end elsewhere",
    ),
    (
        lambda life: life.event.startswith("accumulation") and _has("lazy")(life),
        "lazy rows are without accumulation",
    ),
    (
        lambda life: (
            life.event in ("unfreeze", "freeze", "lora")
            and life.epochs[0] * (life.steps - life.bad) % settings.calls(life, False)
        ),
        "variables come and go between two updates",
    ),
    (
        lambda life: (
            life.event in ("freeze_uncompiled", "thaw_uncompiled")
            and settings.is_window_open(life, parts=2)
        ),
        "what a layer had gathered when it was frozen still counts, unless it was saved frozen",
    ),
    (
        lambda life: (
            life.event in ("freeze", *models.UNCOMPILED)
            and _has("slots_bfloat16", "slots_int8", "rounding")(life)
        ),
        "rounding by chance goes by a variable's place among those that are kept",
    ),
]

# What Keras itself cannot, with any optimizer.
_KERAS = [
    (
        lambda life: life.optimizer in settings.AVERAGES_ITSELF and training.is_fit(life),
        "`fit` ends with other weights, at which the next one computes its first gradient",
    ),
    (
        lambda life: life.callback == "swap" and _narrow(life),
        "Keras' SwapEMAWeights exchanges variables of one dtype, and averages are in float32",
    ),
    (
        lambda life: (3 if settings.IS_KERAS_3 else 2) not in files.FORMATS[life.save].keras,
        "the other Keras has this format",
    ),
    (
        lambda life: (
            "mixed_float16" in (life.policy, life.load_policy)
            and life.wrapper != "scale"
            and life.event in ("unfreeze", "thaw_uncompiled")
            and not settings.IS_KERAS_3
        ),
        "Keras 2's own wrapper knows the variables of its first step only",
    ),
    (
        lambda life: (
            life.save == "h5"
            and life.event in ("freeze", "unfreeze", *models.UNCOMPILED)
            and not (life.event == "unfreeze" and life.epochs[1])
        ),
        "Keras 2 starts an optimizer anew from HDF5 where the number of arrays differs",
    ),
    (
        lambda life: life.save == "h5" and life.event == "accumulation" and not life.epochs[1],
        "Keras 2's HDF5 files do not say how many calls made an update before the change, and "
        "the counter goes by the new number from the next step on",
    ),
    (
        lambda life: (
            life.save in ("weights", "tko_weights")
            and life.callback in ("scheduler", "plateau")
            and life.rate == "constant"
            and not settings.IS_KERAS_3
        ),
        "Keras 2's files of weights hold no learning rate, which these callbacks change",
    ),
    (
        lambda life: life.event == "lora" and not life.epochs[1],
        "before the first step the optimizer and the model know different variables",
    ),
    (
        lambda life: life.model == "subclass" and life.save == "h5",
        "HDF5 files hold no model that is written as a class",
    ),
    (
        lambda life: life.model == "twins" and life.save == "h5",
        "Keras' HDF5 files hold one weight of a name for each layer",
    ),
    (
        lambda life: life.save == "backup" and life.strategy == "onedevice",
        "BackupAndRestore of Keras 2 does not support OneDeviceStrategy",
    ),
    (
        lambda life: life.wrapper == "keras" and life.save in ("state", "state_dict"),
        "a scale of Keras' own wrapper is in no state of the optimizer inside",
    ),
    (
        lambda life: life.bad and life.load_policy != "same",
        "what Keras wraps by itself under one policy skips no step under another",
    ),
    (
        lambda life: life.save == "savedmodel" and life.event == "thaw_uncompiled",
        "a SavedModel directory must have all of the state",
    ),
    (
        lambda life: (
            life.load_policy != "same"
            and "mixed_float16" in (life.policy, life.load_policy)
            and life.save in ("checkpoint", "tf_weights", "callback_weights", "backup")
            and (life.save not in ("callback_weights", "backup") or not settings.IS_KERAS_3)
        ),
        "Keras' wrapper comes or goes, whose scale these formats count as a state",
    ),
    (
        lambda life: (
            life.policy == "bfloat16"
            and not settings.IS_KERAS_3
            and files.FORMATS[life.save].hdf5
        ),
        "Keras 2 cannot read bfloat16 from HDF5",
    ),
    (
        lambda life: life.event == "lora" and not settings.IS_KERAS_3,
        "Keras 2 has no LoRA",
    ),
    (
        lambda life: life.event == "lora" and life.policy == "float64",
        "Keras makes LoRA's factors in float32, and cannot sum both over replicas",
    ),
    (
        lambda life: life.event == "lora" and life.model == "twins",
        "the layer has no LoRA",
    ),
    (
        lambda life: (
            life.event == "lora" and life.save not in ("checkpoint", "state", "state_dict")
        ),
        "Keras merges LoRA into the kernel when it saves and starts it anew",
    ),
    (
        lambda life: (
            life.event in ("freeze", "unfreeze", *models.UNCOMPILED)
            and life.model == "subclass"
            and files.FORMATS[life.save].makes_model
        ),
        "the class makes its layers anew, all trainable",
    ),
    (
        lambda life: (
            life.event in ("unfreeze", "thaw_uncompiled")
            and life.model in ("unbuilt", "subclass")
            and settings.IS_KERAS_3
        ),
        "no tape sees a variable that Keras 3 has made while its layer was frozen",
    ),
    (
        lambda life: life.wrapper == "keras" and life.policy != "mixed_float16",
        "compile wraps under mixed_float16",
    ),
    (
        lambda life: (
            life.wrapper == "keras" and life.loop == "minimize" and settings.IS_KERAS_3
        ),
        "Keras 3's own wrapper has no minimize",
    ),
    (
        lambda life: life.wrapper == "none" and life.policy == "mixed_float16",
        "compile wraps under mixed_float16",
    ),
    (
        lambda life: training.has_replicas(life) and life.loop in ("fit_jit", "own_xla"),
        "an outer jit_compile fails where there are replicas",
    ),
    (
        lambda life: life.strategy != "none" and life.loop == "batch",
        "train_on_batch gives every replica the whole batch",
    ),
    (
        lambda life: training.has_replicas(life) and life.loop == "minimize",
        "minimize is for one replica: own loops stand for several",
    ),
    (
        lambda life: life.save == "backup" and life.model in ("unbuilt", "subclass"),
        "BackupAndRestore wants a model that is built",
    ),
    (
        lambda life: files.is_inside_fit(life) and life.callback in ("plateau", "swap"),
        "what these callbacks remember is not saved",
    ),
]

_RULES = [*_REFUSED, *_EMPTY, *_OTHER_READERS, *_KERAS]
