"""What the site has besides docs/: documents of the top folder; a check of the reference."""

import inspect
import pathlib
import re
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
_DOCUMENTS = ("ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")
# Public, but nothing of this package to describe: Keras' own, and a dict of the kit's checks.
_ELSEWHERE = {"tf_keras_optim.schedules.serialize", "tf_keras_optim.testing.CHECKS"}


def in_reference(root: pathlib.Path = ROOT) -> set[str]:
    """Returns the full names of what the pages of the reference describe.

    Args:
      root: the checkout.
    """
    pages = [page.read_text() for page in (root / "docs" / "reference").glob("*.md")]
    return {found for page in pages for found in re.findall(r"^::: ([\w.]+)$", page, re.M)}


def public() -> dict[str, Any]:
    """Returns everything public by its full name, but for modules."""
    import tf_keras_optim as tko
    from tf_keras_optim import testing

    found = {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in (tko, tko.schedules, tko.callbacks, testing)
        for name in module.__all__
    }
    return {
        name: value
        for name, value in found.items()
        if name not in _ELSEWHERE and not inspect.ismodule(value)
    }


def without_page(root: pathlib.Path = ROOT) -> list[str]:
    """Returns the public names that no page of the reference describes.

    Args:
      root: the checkout.
    """
    return sorted(public().keys() - in_reference(root))


def problems(root: pathlib.Path = ROOT) -> list[str]:
    """Returns what is wrong with the reference, one line for each name.

    Args:
      root: the checkout.
    """
    names, pages = public(), in_reference(root)
    missing = [f"{name} has no page" for name in without_page(root)]
    unknown = [f"{name} is on a page, but not public" for name in sorted(pages - names.keys())]
    bare = [f"{name} has no docstring" for name in sorted(names) if not names[name].__doc__]
    return missing + unknown + bare


def on_files(files: Any, config: Any) -> Any:
    """Adds the documents of the top folder to the pages; MkDocs calls it.

    Args:
      files: the pages of docs/.
      config: MkDocs' configuration.

    Returns:
      The pages.

    Raises:
      PluginError: something public has no page or no docstring, or a page has what is not
        public.
    """
    from mkdocs.exceptions import PluginError
    from mkdocs.structure.files import File

    wrong = problems()
    if wrong:
        raise PluginError("docs/reference: " + "; ".join(wrong))
    for document in _DOCUMENTS:
        text = (ROOT / f"{document}.md").read_text().replace("](docs/", "](")
        files.append(File.generated(config, f"{document.lower()}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Turns links to the documents of the top folder into links to their pages.

    Args:
      markdown: the text of a page.
      page: the page.
      **kwargs: further things of MkDocs', which are not used.

    Returns:
      The text.
    """
    for document in _DOCUMENTS:
        for up in ("../../", "../"):
            to = up.removeprefix("../") + f"{document.lower()}.md"
            markdown = markdown.replace(f"]({up}{document}.md", f"]({to}")
    return markdown
