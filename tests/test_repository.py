"""The rules of this repository: layers, sizes, docstrings, build targets."""

import ast
import inspect
import pathlib
import re
import shutil

import harness
import pytest

import tf_keras_optim as tko
from tf_keras_optim.optimizers import records
from tools import build_files

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tf_keras_optim"
SOURCES = sorted(p for top in ("tf_keras_optim", "tools") for p in (ROOT / top).rglob("*.py"))
ALL_PYTHON = SOURCES + sorted((ROOT / "tests").rglob("*.py"))

ALGORITHMS = [
    p
    for p in (PACKAGE / "optimizers").glob("*.py")
    if p.stem not in ("__init__", "base", "records")
    and not p.stem.endswith(
        ("_arguments", "_polynomials", "_shared", "_variables")
    )  # parts of an algorithm
]

# What each layer may import of this package, besides itself.
LAYERS = {
    "engine": set(),
    "keras_compat": {"engine"},
    "optimizers": {"engine", "keras_compat"},
    "schedules": {"engine", "keras_compat"},
    "command_line": {
        "engine",
        "keras_compat",
        "optimizers",
        "schedules",
        "loss_scale",
        "saving",
        "conversion",
        "registry",
    },
    "saving": {"engine", "keras_compat", "optimizers", "loss_scale"},
    "loss_scale": {"engine", "keras_compat", "optimizers"},
    "conversion": {"engine", "keras_compat", "optimizers", "loss_scale", "saving"},
    "testing": {"engine", "keras_compat", "optimizers"},
}


def name(path):
    return str(path.relative_to(ROOT))


def tree(path):
    return ast.parse(path.read_text(), filename=str(path))


def imported(path):
    """The modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.one_keras
@pytest.mark.parametrize("layer", LAYERS)
def test_imports_only_go_down(layer):
    allowed = LAYERS[layer] | {layer, "version"}
    for path in (PACKAGE / layer).rglob("*.py"):
        for module in imported(path):
            parts = module.split(".")
            if parts[0] == "tf_keras_optim" and len(parts) > 1:
                assert parts[1] in allowed, f"{name(path)} imports {module}"


@pytest.mark.one_keras
def test_the_engine_knows_no_keras_and_no_algorithm():
    algorithms = {path.stem for path in ALGORITHMS}
    for path in (PACKAGE / "engine").rglob("*.py"):
        for module in imported(path):
            assert module.split(".")[0] not in ("keras", "tf_keras"), name(path)
        text = path.read_text()
        assert not re.search(r"tf\.keras\b", text), name(path)
        code = re.sub(r'""".*?"""|#.*', "", text, flags=re.S).lower()
        for algorithm in algorithms:
            assert not re.search(rf"\b{algorithm}\b", code), f"{name(path)}: {algorithm}"


PRIVATE_MODULES = sorted(PACKAGE.rglob("*_private*.py"))


def private(text):
    return text.startswith("_") and not text.startswith("__")


def mentioned(path):
    """Names that a file asks objects for, other than those a class asks itself for."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            base = node.value
            if not (isinstance(base, ast.Name) and base.id in ("self", "cls")):
                yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def defined(path):
    """Names that a file gives to functions, classes, variables and attributes."""
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def private_names():
    """Names of TensorFlow and Keras that the modules of private API use, and nothing else."""
    found, of_modules = set(), re.compile(r"[A-Z]\w+")
    for path in PRIVATE_MODULES:
        found |= {text for text in mentioned(path) if private(text) and text.isidentifier()}
        for node in ast.walk(tree(path)):  # what they take from modules
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found |= {node.attr} if private(node.value.id) else set()
            if isinstance(node, ast.Call) and len(node.args) > 1:
                second = node.args[1]
                given = second.value if isinstance(second, ast.Constant) else None
                if isinstance(given, str) and of_modules.fullmatch(given):
                    found.add(given)
    others = [path for path in PACKAGE.rglob("*.py") if path not in PRIVATE_MODULES]
    top = {node.name for path in PRIVATE_MODULES for node in tree(path).body
           if isinstance(node, ast.FunctionDef)}  # fmt: skip
    return found - top - {text for path in others for text in defined(path)}


@pytest.mark.one_keras
def test_private_api_is_used_in_its_modules_only():
    names = private_names()
    for known in (
        "GraphOrParentsInXlaContext",
        "should_invoke_op_callbacks",
        "AggregatingVariable",
        "ALL_OBJECTS_DICT",
        "_call_flat",
        "_handle_name",
        "_distributed_container",
        "_symbolic_build",
        "_h5_entry_group",
        "_index_dict",
    ):
        assert known in names
    root = re.compile(r"(tensorflow\.python|(tf_)?keras\.src)\b")
    for path in sorted(PACKAGE.rglob("*.py")):
        if path in PRIVATE_MODULES:
            continue
        assert not any(root.match(module) for module in imported(path)), name(path)
        used = set(mentioned(path))
        assert not any(root.match(text) for text in used), name(path)
        assert "__internal__" not in used, name(path)
        assert not used & names, f"{name(path)}: {used & names}"


# Private names of the package that tests may use, and why.
PRIVATE_IN_TESTS = {
    "_learning_rate": "Keras' optimizers have it, and code around them writes to it",
    "_u_product": "Keras' Nadam has it",
    "_get_variable_index": "optimizers written for Keras 3 call it",
    "_renameat2": "taken away, as on systems that cannot exchange directories",
    "_lock": "taken away, as on file systems without locks",
}
# Files about the private names of Keras' optimizers, which classes that people wrote use.
ABOUT_PRIVATE_NAMES = {"test_keras_members.py", "own_classes"}


def private_in(path):
    """The private names of the package that a file of tests asks others for."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            base = node.value
            own = isinstance(base, ast.Name) and base.id in ("self", "cls", "os", "sys")
            if private(node.attr) and not own and not ast.unparse(base).startswith("super()"):
                yield node.attr
            if isinstance(base, ast.Attribute) and base.attr == "tko":  # the parts of one
                yield "tko" if not hasattr(tko, node.attr) else ""
        elif isinstance(node, ast.Call) and "attr" in ast.unparse(node.func):
            yield from (a.value for a in node.args[1:2] if isinstance(a, ast.Constant))


@pytest.mark.one_keras
def test_tests_use_no_private_name_of_the_package():
    package = {text for path in PACKAGE.rglob("*.py") for text in defined(path)}
    names, used = {"tko"} | {text for text in package if private(text)}, set()
    assert {"_store", "_parameters", "_lock"} <= names
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if ABOUT_PRIVATE_NAMES & set(path.parts):
            continue
        found = names & set(private_in(path))
        assert found <= set(PRIVATE_IN_TESTS), f"{name(path)}: {found - set(PRIVATE_IN_TESTS)}"
        used |= found
    assert used == set(PRIVATE_IN_TESTS)  # what is no longer used is not listed


@pytest.mark.one_keras
@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_sizes(path):
    limit = 150 if path.parent.name == "optimizers" else 400
    assert len(path.read_text().splitlines()) <= limit
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, f"{name(path)}: {node.name}"


def public_definitions(path):
    for node in ast.iter_child_nodes(tree(path)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for part in node.body:
                    if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                        setter = any(isinstance(d, ast.Attribute) and d.attr == "setter"
                                     for d in part.decorator_list)  # fmt: skip
                        if not setter:
                            yield f"{node.name}.{part.name}", part


@pytest.mark.one_keras
@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_everything_public_is_documented(path):
    assert ast.get_docstring(tree(path)), name(path)
    for title, node in public_definitions(path):
        assert ast.get_docstring(node), f"{name(path)}: {title}"


@pytest.mark.one_keras
@pytest.mark.parametrize("path", ALGORITHMS, ids=name)
def test_a_file_of_an_optimizer_has_one_class_that_is_registered(path):
    classes = [node.name for node in tree(path).body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 1
    assert classes[0] in tko.list_optimizers()


@pytest.mark.parametrize("cls", harness.OPTIMIZERS, ids=lambda cls: cls.__name__)
def test_an_optimizers_docstring_says_all_it_must(cls):
    parts = ("Args:", "State:", "Sparse gradients:", "Raises:", ">>> ", "Source:", "```")
    places = [cls.__doc__.find(part) for part in parts]
    assert min(places) >= 0, parts[places.index(min(places))]
    section = cls.__doc__[places[0] : places[1]]
    arguments = re.findall(r"^  (\w+): [^\s.,]", section, re.M)
    assert set(arguments) == set(inspect.signature(cls).parameters)
    assert arguments[:2] == ["learning_rate", list(inspect.signature(cls).parameters)[1]]
    assert max(map(len, section.splitlines())) <= 90
    assert "{{" not in cls.__doc__


def test_what_a_declaration_says_stands_in_the_docstring():
    class Own(tko.Optimizer):
        """Own.

        {{arguments}}

        Raises: nothing.
        """

        learning_rate = tko.LearningRate(0.25)
        decay = tko.Hyperparameter(0.5, minimum=0.0, below=1.0, schedulable=True, doc="decay")
        size = tko.Hyperparameter(1.0, above=0.0, below=9.0, doc="size", keyword_only=True)
        power = tko.Hyperparameter(-1.0, maximum=0.0, doc="a power; 0 for none.")

    text = records.documented(Own).__doc__
    start = text.index("Args:")
    assert text[:start] == "Own.\n\n"
    assert text[start:].splitlines()[:5] == [
        "Args:",
        "  learning_rate: number, 0-d tensor, schedule, or callable; default 0.25.",
        "  decay: decay, in [0, 1), or a schedule.",
        "  size: size, above 0 and below 9. Keyword-only.",
        "  power: a power; 0 for none.",
    ]
    assert text.endswith("  name: name of the optimizer. Keyword-only.\n\nRaises: nothing.")


@pytest.mark.one_keras
@pytest.mark.parametrize("path", build_files.build_files(), ids=name)
def test_build_files_are_what_the_imports_ask_for(path):
    assert path.read_text() == build_files.written(path), "run `python -m tools.build_files`"


@pytest.mark.one_keras
@pytest.mark.parametrize("path", build_files.build_files(), ids=name)
def test_targets_of_a_build_file_have_names_of_their_own(path):
    names = re.findall(r'^    name = "(.*)",$', path.read_text(), re.M)
    assert names and len(names) == len(set(names))


def targets(path):
    """By the label of each target of a BUILD file: who sees it, and what it needs."""
    package, found, default = str(path.parent.relative_to(ROOT)), {}, []
    for call in (node.value for node in ast.parse(path.read_text()).body):
        if not isinstance(call, ast.Call):
            continue
        values = {
            k.arg: ast.literal_eval(k.value)
            for k in call.keywords
            if isinstance(k.value, (ast.List, ast.Constant))
        }
        if call.func.id == "package":
            default = values["default_visibility"]
        else:
            needed = [
                d if d.startswith("//") else f"//{package}{d}" for d in values.get("deps", [])
            ]
            found[f"//{package}:{values['name']}"] = values.get("visibility", default), needed
    return found


def is_visible(visibility, package):
    for rule in visibility:
        where, _, what = rule.removeprefix("//").partition(":")
        below = what == "__subpackages__" and f"{package}/".startswith(f"{where}/")
        if rule == "//visibility:public" or below or (what == "__pkg__" and package == where):
            return True
    return False


@pytest.mark.one_keras
def test_targets_see_what_they_need():
    known = {}
    for path in build_files.build_files():
        known |= targets(path)
    unseen = []
    for label, (_, needed) in known.items():
        package = label.removeprefix("//").partition(":")[0]
        for other in needed:
            home = other.removeprefix("//").partition(":")[0]
            if package != home and not is_visible(known[other][0], package):
                unseen.append((label, other))
    assert len(known) > 300 and not unseen


@pytest.mark.one_keras
def test_the_tool_for_build_files_notices_an_import(tmp_path, capsys):
    ignored = shutil.ignore_patterns("__pycache__")
    for top in ("tf_keras_optim", "tools", "tests"):
        shutil.copytree(ROOT / top, tmp_path / top, ignore=ignored)
    for document in ROOT.glob("*.md"):  # their examples count as imports
        shutil.copy(document, tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    arguments = ["--check", f"--root={tmp_path}"]
    assert build_files.main(arguments) == 0
    source = tmp_path / "tf_keras_optim" / "engine" / "step" / "recent.py"
    source.write_text(
        source.read_text() + "\nfrom tf_keras_optim.engine.numerics import formulas\n"
    )
    (tmp_path / "tests" / "test_scratch.py").write_text(
        'import harness\n\nPROGRAM = "killed.py"\n'
    )
    assert build_files.main(arguments) == 1
    said = capsys.readouterr().out
    assert "Differs: tf_keras_optim/engine/step/BUILD" in said
    assert "Differs: tests/BUILD" in said
    assert build_files.main(arguments[1:]) == 0
    assert build_files.main(arguments) == 0
    engine = (tmp_path / "tf_keras_optim" / "engine" / "step" / "BUILD").read_text()
    rule = engine[engine.index('name = "recent"') :].split("py_library")[0]
    assert '"//tf_keras_optim/engine/numerics:formulas",' in rule
    tests = (tmp_path / "tests" / "BUILD").read_text()
    assert 'args = ["$(location test_scratch.py)"],' in tests
    rule = tests[tests.index('name = "test_scratch"') :].split("py_")[0]
    assert '":harness",' in rule and '":killed",' in rule  # imported, and started


@pytest.mark.one_keras
def test_the_text_names_no_machine_and_no_tracker():
    suspicious = re.compile(r"/work/|/root/|/home/|localhost:\d|https?://(?!www\.apache\.org)")
    files = [p for p in ROOT.glob("*") if p.is_file() and p.suffix in (".md", ".toml", "")]
    for path in [
        *ALL_PYTHON,
        *files,
        *(ROOT / "configs").glob("*"),
        *(ROOT / "tools").glob("*"),
    ]:
        # A worktree has a file ".git" that says where the repository is.
        if path.is_file() and path.name not in (".git", "LICENSE", pathlib.Path(__file__).name):
            found = suspicious.search(path.read_text(errors="ignore"))
            assert not found, f"{name(path)}: {found.group(0)}"
