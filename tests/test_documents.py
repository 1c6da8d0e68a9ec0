"""The documents: their examples run as they stand, and their links lead somewhere.

The examples of a page run in their order, in one namespace, as a reader would run them. A
comment `<!-- test: keras 3 -->` above an example says that it is about one Keras alone.
"""

import doctest
import inspect
import pathlib
import re
import shutil

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state
from tools import site_hooks

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *PAGES})
REFERENCE = ROOT / "docs" / "reference"

EXAMPLE = re.compile(r"^(?:<!-- test: keras (\d) -->\n)?```python\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PAPERS = re.compile(
    r"https:[/]{2}(arxiv\.org|doi\.org|openreview\.net|jmlr\.org|proceedings\.mlr\.press|"
    r"papers\.nips\.cc|www\.cs\.toronto\.edu|www\.stats\.ox\.ac\.uk|kellerjordan\.github\.io)/"
)
GUIDES = """
index getting-started training-loops schedules groups choosing evaluation-weights
mixed-precision embeddings distribution saving export migrating memory own-optimizer
troubleshooting differences benchmarks accuracy compatibility trainings watching tutorial
architecture/update-rules architecture/kernels architecture/plans architecture/measures
architecture/state architecture/saving architecture/distribution architecture/keras
"""


def name(path):
    return str(path.relative_to(ROOT))


def examples(path):
    """Yields the Keras that an example is for (or ""), the lines above it, and its text."""
    text = path.read_text()
    for match in EXAMPLE.finditer(text):
        yield match.group(1) or "", text.count("\n", 0, match.start(2)), match.group(2)


WITH_EXAMPLES = [path for path in PAGES if any(examples(path))]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name)
def test_examples_run(path):
    namespace = {"__name__": "example"}
    try:
        for keras, line, text in examples(path):
            if keras in ("", "3" if harness.IS_KERAS_3 else "2"):
                exec(compile("\n" * line + text, str(path), "exec"), namespace)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def test_there_is_an_example_for_each_use():
    found = [text for path in PAGES for _, _, text in examples(path)]
    for text in ("model.fit(", "GradientTape", "tfp.", "export_training(", "load_state("):
        assert any(text in example for example in found), text


@pytest.mark.one_keras
def test_each_difference_has_a_script_or_says_how_it_was_seen():
    text = (ROOT / "docs" / "differences.md").read_text()
    for number, section in enumerate(re.split(r"^## ", text, flags=re.M)[1:], 1):
        rows = re.findall(r"^\| ([0-9.]+) \| (.*)$", section, re.M)
        assert [row for row, _ in rows] == [f"{number}.{i + 1}" for i in range(len(rows))]
        scripts = re.split(r"^(?=\*\*[0-9.]+\*\*)", section, flags=re.M)[1:]
        shown = {row for part in scripts for row in re.findall(r"\*\*([0-9.]+)\*\*", part)}
        assert all("```python" in part for part in scripts)
        seen = {row for row, cells in rows if re.search(r"(Shown|Seen) by .+ \|", cells)}
        assert shown | seen == {row for row, _ in rows} and not shown & seen


def test_every_fence_of_python_is_an_example():
    for path in PAGES:
        text = path.read_text()
        assert len(re.findall(r"^``` ?py", text, re.M)) == len(list(examples(path))), name(path)


# Links and pages.


def prose(path):
    """Returns a document without its code."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path):
    """Returns the names of the headings of a document, as links call them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


@pytest.mark.one_keras
@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    for link in LINK.findall(prose(path)):
        if "://" in link:
            assert PAPERS.match(link), f"{name(path)}: {link} is no paper"
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.is_file() and ROOT in file.parents, f"{name(path)}: {link}"
        assert not anchor or anchor in anchors(file), f"{name(path)}: {link}"


@pytest.mark.one_keras
def test_pages_are_there_and_are_no_stubs():
    assert len(README.read_text().splitlines()) <= 150
    for page in GUIDES.split():
        path = ROOT / "docs" / f"{page}.md"
        assert len(path.read_text().split()) >= 150, page
        assert max(map(len, prose(path).splitlines())) <= 130 or "|" in prose(path), page
    linked = {
        (path.parent / link.partition("#")[0]).resolve()
        for path in PAGES
        for link in LINK.findall(prose(path))
    }
    alone = {name(path) for path in PAGES if path not in linked} - {"README.md"}
    assert not alone


@pytest.mark.one_keras
def test_the_text_of_pages_names_no_machine():
    for path in PAGES:
        found = re.search(r"/(work|root|home)/|localhost:[0-9]|http:[/]{2}", path.read_text())
        assert not found, f"{name(path)}: {found.group(0)}"


@pytest.mark.one_keras
def test_pictures_are_small_and_are_shown_with_a_text():
    folder = ROOT / "docs" / "pictures"
    shown = set()
    for path in PAGES:
        for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", path.read_text()):
            assert len(alt.split()) >= 5, f"{name(path)}: {target}"
            shown.add((path.parent / target).resolve())
    assert shown == set(folder.iterdir())
    for path in shown:
        assert path.stat().st_size < 60_000, name(path)
        assert not re.search(r"/(work|root|home|tmp)/", path.read_text()), name(path)


# The reference.


@pytest.mark.one_keras
def test_everything_public_is_in_the_reference():
    assert len(site_hooks.in_reference()) > 80
    assert site_hooks.problems() == []


@pytest.mark.one_keras
def test_what_has_no_page_is_a_problem(tmp_path):
    shutil.copytree(REFERENCE, tmp_path / "docs" / "reference")
    (tmp_path / "docs" / "reference" / "adamw.md").unlink()
    page = tmp_path / "docs" / "reference" / "names.md"
    page.write_text(page.read_text() + "\n::: tf_keras_optim.nothing\n")
    assert site_hooks.problems(tmp_path) == [
        "tf_keras_optim.AdamW has no page",
        "tf_keras_optim.nothing is on a page, but not public",
    ]


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", harness.OPTIMIZERS, ids=lambda cls: cls.__name__)
def test_an_optimizer_has_a_page_with_its_papers(cls):
    page = (REFERENCE / f"{cls.__name__.lower()}.md").read_text()
    title, summary, papers = page.split("\n\n")[:3]
    assert title == f"# {cls.__name__}"
    assert papers.startswith("Papers: ") and PAPERS.search(papers)
    row = f"| [{cls.__name__}]({{}}{cls.__name__.lower()}.md) | {summary} |"
    assert row.format("") in (REFERENCE / "index.md").read_text()
    assert row.format("docs/reference/") in README.read_text()


CLASSES = {
    name: value
    for module in (tko, tko.schedules)
    for name, value in vars(module).items()
    if name in module.__all__ and isinstance(value, type)
}


@pytest.mark.one_keras
@pytest.mark.parametrize("name", CLASSES)
def test_docstring_examples_are_true(name):
    cls = CLASSES[name]
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    names = {"tf": tf, "np": np, "tko": tko, **CLASSES}
    for case in finder.find(cls, name, globs=names):
        runner.run(case)
    assert runner.summarize(verbose=False).failed == 0
    bases = (tko.Optimizer, tko.schedules.Schedule)
    if issubclass(cls, bases) and cls not in bases:
        assert runner.tries > 0


def test_shared_arguments_stand_in_every_docstring():
    for cls in harness.OPTIMIZERS:
        for name in state.hyperparameters(cls):
            assert re.search(rf"^ +{name}: ", cls.__doc__, re.M), (cls, name)


def test_everything_public_is_documented():
    for name in tko.__all__:
        assert getattr(tko, name).__doc__
    arguments = {
        cls: list(inspect.signature(cls).parameters)
        for cls in CLASSES.values()
        if issubclass(cls, tko.schedules.Schedule) and cls is not tko.schedules.Schedule
    }
    arguments[tko.LossScaleOptimizer] = tko.LossScaleOptimizer(tko.SGD()).get_config()
    for cls, names in arguments.items():
        assert "{{" not in cls.__doc__
        for name in names:
            assert re.search(rf"^ +{name}: [^\s.,]", cls.__doc__, re.M), (cls, name)
