"""How the site reads the docstrings; mkdocs.yml names this file."""

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Has the examples of docstrings shown as code."""

    def on_instance(self, *, obj: Any, **kwargs: Any) -> None:
        """Gives the section "Example:" the name by which it is known as code.

        Args:
          obj: what was read.
          **kwargs: further things, which are not used.
        """
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M
            )
