"""How the package is put together: parts keep to themselves, and say what they need."""

import ast
import builtins
import pathlib

import pytest

import tf_keras_optim as tko

PACKAGE = pathlib.Path(tko.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
PRIVATE_API = sorted(PACKAGE.rglob("*_private*.py"))
OF_PYTHON = {"_getframe"}
# What Keras or TensorFlow call on an optimizer, or set on it, by these names.
OF_OTHERS = {
    "_accumulated_gradients",
    "_all_reduce_sum_gradients",
    "_apply_weight_decay",
    "_build_index_dict",
    "_build_learning_rate",
    "_built",
    "_compute_current_learning_rate",
    "_copy_trackable_to_cpu",
    "_distribution_strategy",
    "_get_current_learning_rate",
    "_get_variable_index",
    "_index_dict",
    "_iterations",
    "_learning_rate",
    "_lock",
    "_lookup_dependency",
    "_mesh",
    "_model_variables_moving_average",
    "_restore_from_tensors",
    "_run_with_dtensor",
    "_serialize_to_tensors",
    "_trackable_children",
    "_tracker",
    "_track_variable",
    "_trainable_variables",
    "_trainable_variables_indices",
    "_untrack_variable",
    "_update_step",
    "_update_step_xla",
    "_use_weight_decay",
    "_variables",
    "params",
}


def name(path):
    return str(path.relative_to(PACKAGE))


def tree(path):
    return ast.parse(path.read_text(), filename=str(path))


def is_private(text):
    return text.startswith("_") and not text.startswith("__")


def set_in(node):
    """Names of attributes that some code sets or declares, on whatever object."""
    for part in ast.walk(node):
        if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
            yield part.name
        elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            yield part.attr
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            yield part.target.id
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif isinstance(part, ast.Call) and ast.unparse(part.func).endswith("keep_untracked"):
            yield from [a.value for a in part.args if isinstance(a, ast.Constant)]


def asked_of_others(path):
    """Private members that a file asks for of what is neither `self` nor a base class."""
    whole = tree(path)
    bases = {
        id(call.func)  # `Base.method(self, ...)`
        for call in ast.walk(whole)
        if isinstance(call, ast.Call) and call.args and ast.unparse(call.args[0]) == "self"
    }
    for node in ast.walk(whole):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            whose = ast.unparse(node.value)
            if whose not in ("self", "cls", "super()") and id(node) not in bases:
                yield node.attr


@pytest.mark.one_keras
@pytest.mark.parametrize("path", [p for p in SOURCES if p not in PRIVATE_API], ids=name)
def test_no_object_asks_another_for_its_private_members(path):
    own = set(set_in(tree(path)))
    assert set(asked_of_others(path)) - own <= OF_PYTHON


@pytest.mark.one_keras
@pytest.mark.parametrize("path", sorted((PACKAGE / "engine").rglob("*.py")), ids=name)
def test_what_the_engine_is_given_has_a_type(path):
    for function in ast.walk(tree(path)):
        if isinstance(function, ast.FunctionDef):
            for given in ast.walk(function.args):
                if isinstance(given, ast.arg) and given.arg == "optimizer":
                    assert given.annotation is not None, f"{name(path)}:{given.lineno}"
                    assert ast.unparse(given.annotation) != "Any", (
                        f"{name(path)}:{given.lineno}"
                    )


def classes():
    """By the names of the package's classes: their bases, and what they set and read."""
    found = {}
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
                read = {
                    part.attr
                    for part in ast.walk(node)
                    if isinstance(part, ast.Attribute)
                    and isinstance(part.value, ast.Name)
                    and part.value.id == "self"
                    and isinstance(part.ctx, ast.Load)
                }
                known = found.setdefault(node.name, (set(), set(), set()))
                for old, new in zip(known, (bases - {node.name}, set(set_in(node)), read)):
                    old |= new
    return found


@pytest.mark.one_keras
def test_a_class_reads_what_it_sets_or_inherits():
    """Of itself; what comes from Keras' and TensorFlow's classes is theirs."""
    known = classes()
    known["Face"] = ({"Engine"}, set(), set())  # what the package calls the one that it uses

    def inherited(cls, seen=()):
        bases, own, _ = known.get(cls, (set(), set(dir(getattr(builtins, cls, object))), set()))
        for base in bases - {cls, *seen}:
            own = own | inherited(base, (*seen, cls))
        return own

    lacking = {}
    for cls, (_, _, read) in known.items():
        names = {n for n in read if not n.startswith("__")} - inherited(cls) - OF_OTHERS
        if names:
            lacking[cls] = names
    assert not lacking


def test_what_keras_sees_has_few_private_members_of_ours():
    optimizer = tko.SGD()
    found = {n for n in vars(optimizer) if not n.startswith(("_tko_", "_self_"))}
    for cls in type(optimizer).__mro__:
        if cls.__module__.startswith("tf_keras_optim"):
            found |= set(vars(cls))
    lists = {"_momentums", "_velocities"}  # Keras' names of slots
    found = {n for n in found if is_private(n) and n not in OF_OTHERS | lists}
    assert len(found) <= 25, sorted(found)


def test_every_member_of_an_optimizer_is_the_wrappers_too():
    wrapper = tko.LossScaleOptimizer
    members = {n for n in dir(tko.Optimizer) if not n.startswith("_")}
    defined = {n for cls in wrapper.__mro__ for n in vars(cls)}
    assert members - defined - {"name"} == {"tko"}  # its own name, set by `__init__`
    inner = tko.Adam(0.5, weight_decay=0.25)
    around = wrapper(inner)
    assert around.weight_decay == 0.25
    around.clipnorm = 3.0
    assert inner.clipnorm == 3.0
    assert around.beta_1 == inner.beta_1 == 0.9
    with pytest.raises(AttributeError, match="_no_such"):
        around._no_such  # noqa: B018
