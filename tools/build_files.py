"""Writes the Python targets of the BUILD files from what the sources import.

    python -m tools.build_files           # writes them
    python -m tools.build_files --check   # says which ones differ, and changes nothing

A file is one target. What stands above the first target, targets of other kinds and the
attributes `size`, `data`, `tags` and `visibility` are kept as they are, and so are programs.
"""

import argparse
import ast
import pathlib
import re
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
_KEPT = ("size", "data", "tags", "visibility")  # attributes that no import tells
_RUNNER = "run_pytest.py"  # what a test runs: alone, a file of tests would run none
_TOPS = ("tf_keras_optim", "tools", "tests")
_EXAMPLES = ("//:documents",)  # data whose examples a test runs


def build_files(root: pathlib.Path = ROOT) -> list[pathlib.Path]:
    """Returns the BUILD files of a checkout that have Python targets."""
    return sorted(build for top in _TOPS for build in (root / top).rglob("BUILD"))


def written(build: pathlib.Path, root: pathlib.Path = ROOT) -> str:
    """Returns what a BUILD file should be.

    Args:
      build: the file; it must be there, with what is kept.
      root: the checkout.
    """
    text = build.read_text()
    head, others, kept = _parts(text)
    package = build.parent
    sources = sorted(package.glob("*.py"), key=lambda p: (p.stem != "__init__", p.name))
    rules = [_rule(source, kept.get(source.name, {}), root) for source in sources]
    return "\n\n".join([head.strip(), *rules, *others]) + "\n"


def _parts(text: str) -> tuple[str, list[str], dict[str, dict[str, object]]]:
    """Returns what stands above the targets, the targets of other kinds, and what is kept."""
    lines = text.splitlines()
    calls = [node.value for node in ast.parse(text).body if isinstance(node, ast.Expr)]
    rules = [call for call in calls if isinstance(call, ast.Call) and _kind(call) != "package"]
    first = min((rule.lineno for rule in rules), default=len(lines) + 1)
    others, kept = [], {}
    for rule in rules:
        if not _kind(rule).startswith("py_"):
            others.append("\n".join(lines[rule.lineno - 1 : rule.end_lineno]))
            continue
        values = {k.arg: ast.literal_eval(k.value) for k in rule.keywords if k.arg}
        sources = [source for source in values["srcs"] if source != _RUNNER] or [_RUNNER]
        kept[sources[0]] = {key: values[key] for key in _KEPT if key in values}
        kept[sources[0]]["kind"] = _kind(rule)
    return "\n".join(lines[: first - 1]), others, kept


def _kind(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _rule(source: pathlib.Path, kept: dict[str, object], root: pathlib.Path) -> str:
    """Returns the target of a source file."""
    in_tests = source.relative_to(root).parts[0] == "tests"
    is_test = in_tests and source.name.startswith("test_")
    is_program = source.stem == "__main__" or kept.get("kind") == "py_binary"
    kind = "py_test" if is_test else "py_binary" if is_program else "py_library"
    name = _name(source)
    attributes: dict[str, object] = {"name": name}
    if is_test:
        attributes["size"] = kept.get("size", "medium")
    attributes["srcs"] = [source.name, _RUNNER] if is_test else [source.name]
    if is_test:
        attributes["args"] = [f"$(location {source.name})"]
    elif in_tests:
        attributes["testonly"] = True
    attributes |= {name: kept[name] for name in ("data", "tags") if name in kept}
    if source.parent == root / "tests":
        attributes["imports"] = ["."]
    if is_test:
        attributes["main"] = _RUNNER
    if "visibility" in kept:
        attributes["visibility"] = kept["visibility"]
    needed = set(dependencies(source, root))
    if is_test:
        needed.add(":conftest")
        if set(_EXAMPLES) & set(kept.get("data", ())):  # type: ignore[call-overload]
            needed |= set(_of_examples(root))
    if needed:
        attributes["deps"] = sorted(needed)
    lines = [f"    {key} = {_value(value)}," for key, value in attributes.items()]
    return "\n".join([f"{kind}(", *lines, ")"])


def _name(file: pathlib.Path) -> str:
    """Returns the name of a file's target; the folder's own name is that of `__init__.py`."""
    if file.stem == "__init__":
        return file.parent.name
    return f"{file.stem}_module" if file.stem == file.parent.name else file.stem


def _value(value: object) -> str:
    """Returns a value as it is written in a BUILD file."""
    if isinstance(value, list) and len(value) > 1:
        return "\n".join(["[", *(f'        "{item}",' for item in value), "    ]"])
    return str(value).replace("'", '"') if isinstance(value, (list, bool)) else f'"{value}"'


def dependencies(source: pathlib.Path, root: pathlib.Path = ROOT) -> Iterator[str]:
    """Yields the targets whose files a source file imports or starts, anywhere in it.

    It starts a module by its whole name, and in the tests also a file beside it.
    """
    text, title = source.read_text(), str(source)
    beside = source.parent if source.parent == root / "tests" else None
    modules, files = named(text, title)
    found = [_file_of(module, root, beside) for module in imported(text, title)]
    found += [_file_of(module, root, None) for module in modules]
    if beside is not None:
        found += [beside / name for name in files if (beside / name).exists()]
    for file in found:
        if file is not None and file != source:
            yield _label(file, source.parent, root)


def named(text: str, title: str) -> tuple[set[str], set[str]]:
    """Returns the modules and the files of Python that stand in a source as text."""
    nodes = ast.walk(ast.parse(text, filename=title))
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    texts = {text for text in constants if isinstance(text, str)}
    modules = {t for t in texts if re.fullmatch(rf"({'|'.join(_TOPS)})(\.[a-z]\w*)+", t)}
    return modules, {t for t in texts if re.fullmatch(r"[a-z]\w*\.py", t)}


def _of_examples(root: pathlib.Path) -> Iterator[str]:
    """Yields the targets that the examples in the documents import."""
    for document in sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")]):
        for block in re.findall(r"^```python\n(.*?)^```", document.read_text(), re.M | re.S):
            plain = re.sub(r"^(>>>|\.\.\.) ?", "", block, flags=re.M)
            lines = [
                line for line in plain.splitlines() if re.match(r"\s*(import|from) ", line)
            ]
            for line in lines:
                for module in imported(line.strip(), str(document)):
                    file = _file_of(module, root, None)
                    if file is not None:
                        yield _label(file, root / "tests", root)


def imported(text: str, title: str) -> set[str]:
    """Returns the modules that a source imports, and what it imports of them."""
    found = set()
    for node in ast.walk(ast.parse(text, filename=title)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _file_of(
    module: str, root: pathlib.Path, beside: pathlib.Path | None
) -> pathlib.Path | None:
    """Returns the file of a module of this repository, or `None`."""
    for folder in (root, beside):
        if folder is not None:
            path = folder / module.replace(".", "/")
            for place in (path.with_suffix(".py"), path / "__init__.py"):
                if place.exists():
                    return place
    return None


def _label(file: pathlib.Path, package: pathlib.Path, root: pathlib.Path) -> str:
    name = _name(file)
    return f":{name}" if file.parent == package else f"//{file.parent.relative_to(root)}:{name}"


def main(argv: list[str] | None = None) -> int:
    """Writes the files; returns 1 if `--check` found one that differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="the checkout")
    arguments = parser.parse_args(argv)
    root = arguments.root.resolve()
    different = 0
    for build in build_files(root):
        new = written(build, root)
        if new == build.read_text():
            continue
        different += 1
        print(f"{'Differs' if arguments.check else 'Wrote'}: {build.relative_to(root)}")
        if not arguments.check:
            build.write_text(new)
    return 1 if arguments.check and different else 0


if __name__ == "__main__":
    sys.exit(main())
