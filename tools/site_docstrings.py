"""How the site reads the package; mkdocs.yml names this file."""

import inspect
import re
from typing import Any

import griffe

_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: griffe.ParameterKind.positional_only,
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.VAR_POSITIONAL: griffe.ParameterKind.var_positional,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
    inspect.Parameter.VAR_KEYWORD: griffe.ParameterKind.var_keyword,
}


class Docstrings(griffe.Extension):
    """Shows examples of docstrings as code, and the signatures that declarations make."""

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

    def on_class_members(self, *, node: Any, cls: Any, **kwargs: Any) -> None:
        """Gives a class the signature that `inspect.signature` knows.

        Args:
          node: what the class was read from.
          cls: what was read.
          **kwargs: further things, which are not used.
        """
        signature = vars(node.obj).get("__signature__")
        if not isinstance(signature, inspect.Signature):
            return
        parameters = [
            griffe.Parameter(
                parameter.name,
                kind=_KINDS[parameter.kind],
                default=None
                if parameter.default is inspect.Parameter.empty
                else repr(parameter.default),
            )
            for parameter in signature.parameters.values()
        ]
        first = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
        cls.set_member(
            "__init__",
            griffe.Function("__init__", parameters=griffe.Parameters(first, *parameters)),
        )
