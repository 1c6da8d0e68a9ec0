"""Regular expressions that are searched in the paths of variables."""

import difflib
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tf_keras_optim.engine.hyperparameters import Hyperparameter


class Patterns(Hyperparameter):
    """A list of regular expressions, searched in a variable's path.

    Args:
      doc: as for any hyperparameter.
      optional: whether `None` stands for an empty list.
      until_built: as for any hyperparameter.
    """

    def __init__(
        self, doc: str = "", *, optional: bool = False, until_built: bool = False
    ) -> None:
        super().__init__(
            [],
            kind=list,
            keyword_only=True,
            optional=optional,
            until_built=until_built,
            doc=doc,
        )

    def check(self, value: Any, owner: str) -> list[str]:
        """Returns the expressions as a list."""
        if value is None and self.optional:
            return []
        problem = ("" if isinstance(value, (list, tuple)) else "it is no list") or problem_of(
            value
        )
        if problem:
            raise ValueError(
                f"{owner}: argument `{self.name}` must be a list of regular expressions, "
                f"searched in a variable's path. Received: {self.name}={value!r} ({problem})."
            )
        return list(value)

    def patterns(self, value: Any) -> Sequence[str]:
        """Returns the regular expressions in a value."""
        return value


class ByPattern(Hyperparameter):
    """One of some choices for all variables, or a dict from patterns of paths to them.

    Args:
      default: value when the argument is not given.
      choices: the allowed strings.
      doc: as for any hyperparameter.
    """

    def __init__(self, default: str | None, choices: tuple[str, ...], doc: str = ""):
        super().__init__(default, kind=str, keyword_only=True, doc=doc)
        self.values = choices

    def check(self, value: Any, owner: str) -> Any:
        """Returns a choice, or a dict from regular expressions to choices."""
        if value is None and self.optional:
            return None
        is_dict = isinstance(value, Mapping)
        value = dict(value) if is_dict else value
        known = all(isinstance(c, str) and c in self.values for c in all_of(value))
        problem = problem_of(value) if is_dict else ""
        if not known or problem:
            raise ValueError(
                f"{owner}: argument `{self.name}` must be "
                f"{', '.join(map(repr, self.values))}, or a dict from regular expressions, "
                f"searched in a variable's path, to these{', or None' * self.optional}. "
                f"Received: {self.name}={value!r}{f' ({problem})' if problem else ''}."
            )
        return value

    def patterns(self, value: Any) -> Sequence[str]:
        """Returns the regular expressions in a value."""
        return list(value) if isinstance(value, dict) else []


class IntegersByPattern(Hyperparameter):
    """A dict from regular expressions, searched in a variable's path, to integers.

    Args:
      minimum: the smallest of them, 1 or more; by default each but 0.
      until_built: as for any hyperparameter.
      doc: as for any hyperparameter.
    """

    def __init__(
        self, *, minimum: int | None = None, until_built: bool = False, doc: str = ""
    ) -> None:
        super().__init__(
            {},
            kind=dict,
            keyword_only=True,
            minimum=minimum,
            until_built=until_built,
            doc=doc,
        )

    def check(self, value: Any, owner: str) -> dict[str, int]:
        """Returns the dict."""
        problem = "it is no dict"
        if isinstance(value, Mapping):
            problem = problem_of(value)
            for pattern, number in value.items():
                is_number = isinstance(number, int) and not isinstance(number, bool)
                if not is_number or number == 0 or (self.minimum or number) > number:
                    problem = problem or f"{number!r} for {pattern!r}"
        if problem:
            signs = f"of at least {self.minimum}" if self.minimum else "other than 0"
            raise ValueError(
                f"{owner}: argument `{self.name}` must be a dict from regular expressions, "
                f"searched in a variable's path, to integers {signs}. Received: "
                f"{self.name}={value!r} ({problem})."
            )
        return dict(value)

    def patterns(self, value: Any) -> Sequence[str]:
        """Returns the regular expressions in a value."""
        return list(value)


def problem_of(patterns: Iterable[Any]) -> str:
    """Returns what is wrong with the first bad regular expression, or an empty text."""
    for pattern in patterns:
        if not isinstance(pattern, str):
            return f"{pattern!r} is no string"
        try:
            re.compile(pattern)
        except re.error as error:
            return f"{pattern!r} is no regular expression: {error}"
    return ""


def exactly(paths: Iterable[str]) -> str:
    """Returns a regular expression that is found in these paths only."""
    return f"^(?:{'|'.join(map(re.escape, dict.fromkeys(paths)))})$"


def by_pattern(value: Any, path: str) -> Any:
    """Returns what a `ByPattern` argument says for a path; `None` where nothing matches."""
    if not isinstance(value, dict):
        return value
    return next((v for pattern, v in value.items() if re.search(pattern, path)), None)


def all_of(value: Any) -> list[Any]:
    """Returns every choice in a `ByPattern` argument."""
    return list(value.values()) if isinstance(value, dict) else [value]


def check_matches(
    title: str,
    argument: str,
    patterns: Iterable[str],
    paths: list[str],
    saved: Collection[str] = (),
) -> None:
    """Refuses a regular expression that is found in no path, as it would be ignored.

    One that comes with a configuration was found in some path once, of a variable that is
    frozen now, say: it is kept, with a warning.

    Args:
      title: the optimizer, for the message.
      argument: where the expressions were given.
      patterns: the expressions.
      paths: the paths of all variables.
      saved: those that come with a configuration.

    Raises:
      ValueError: one is found in none; the nearest path is named.
    """
    for pattern in patterns if paths else ():
        if any(re.search(pattern, path) for path in paths):
            continue
        text = (
            f"{title}: `{argument}` has the pattern {pattern!r}, which is found in the "
            f"path of none of the {len(paths)} variables; the nearest path is "
            f"{nearest_path(pattern, paths)!r}."
        )
        if pattern not in saved:
            raise ValueError(
                f"{text} Correct the pattern or leave it out; the "
                'pattern "" is found in every path.'
            )
        warnings.warn(
            f"{text} It comes with a configuration, and stays for variables that come later.",
            stacklevel=2,
        )


def nearest_path(pattern: str, paths: Iterable[str]) -> str:
    """Returns the path that, as a whole or in its last parts, is most like a pattern."""
    text = re.sub(r"\\.|[\^$.*+?()\[\]{}|]", "", pattern).strip("/")

    def likeness(path: str) -> float:
        parts = path.split("/")
        tails = ["/".join(parts[i:]) for i in range(len(parts))]
        matcher = difflib.SequenceMatcher(None, text)
        found = []
        for candidate in {*tails, *parts}:
            matcher.set_seq2(candidate)
            found.append(matcher.ratio())
        return max(found)

    return max(paths, key=likeness)


class DecayExclusions:
    """Which variables weight decay leaves alone."""

    def __init__(self) -> None:
        self._variables: list[tuple[Any, str]] = []  # with their paths
        self._names: list[str] = []
        self._saved: dict[str, int] = {}  # paths of variables in a config, and their places
        self._found: dict[str, str] = {}  # the paths here
        self._saved_names: frozenset[str] = frozenset()  # names that come with a config

    def __bool__(self) -> bool:
        return bool(self._variables or self._names or self._saved)

    def set(self, variables: Iterable[tuple[Any, str]], names: Iterable[str]) -> None:
        """Replaces the exclusions.

        Args:
          variables: pairs of a TensorFlow variable and its path.
          names: regular expressions, searched in a variable's path.
        """
        self._variables, self._names = list(variables), list(names)
        self._saved, self._found, self._saved_names = {}, {}, frozenset()

    def are(self, variables: Iterable[tuple[Any, str]], names: Iterable[str]) -> bool:
        """Says whether these are the exclusions already; the arguments are those of `set`."""
        known, given = ({id(v) for v, _ in pairs} for pairs in (self._variables, variables))
        return not self._saved and known == given and self._names == list(names)

    def check(self, title: str, paths: list[str]) -> None:
        """Refuses names that match no variable; finds the variables known by their paths.

        A variable that was given and is not there may come with a later `build`.

        Args:
          title: the optimizer, for the message.
          paths: the paths of all its variables, in model order.

        Raises:
          ValueError: a name is found in none of them.
        """
        method = "exclude_from_weight_decay"
        check_matches(title, f"{method}(var_names=)", self._names, paths, self._saved_names)
        self._found = {}
        for path in self._saved if paths else ():
            found = self._path_here(path, paths)
            if found is None:
                warnings.warn(
                    f"{title}: its configuration excludes {path!r} from weight decay, which is "
                    f"none of the {len(paths)} variables here; the nearest path is "
                    f"{nearest_path(path, paths)!r}. To exclude another one, call `{method}` "
                    "before the optimizer is built.",
                    stacklevel=2,
                )
            else:
                self._found[path] = found

    def _path_here(self, path: str, paths: list[str]) -> str | None:
        """Returns the path here of a variable whose path was saved.

        Keras may have given it another automatic name ("dense_3/bias" for "dense/bias", or
        without the model's), so its place counts, where the names agree.
        """
        place = self._saved[path]
        if 0 <= place < len(paths) and _are_alike(path, paths[place]):
            return paths[place]
        if path in paths:
            return path
        saved = [other for other in self._saved if _are_alike(path, other)]
        here = [other for other in paths if _are_alike(path, other)]
        return here[saved.index(path)] if len(saved) == len(here) else None

    def excludes(self, variable: Any, path: str) -> bool:
        """Says whether a variable is excluded, by identity or by its path."""
        by_name = any(re.search(name, path) for name in self._names)
        by_path = path in self._found.values()
        return by_name or by_path or any(variable is other for other, _ in self._variables)

    def get_config(self, paths: list[str]) -> dict[str, list]:
        """Returns the exclusions as names, paths and places.

        Args:
          paths: the paths of all variables of the optimizer, in model order.
        """
        given = {path: -1 for _, path in self._variables}
        given |= {self._found.get(path, path): place for path, place in self._saved.items()}
        places = {path: place for place, path in enumerate(paths)}
        return {
            "var_names": list(self._names),
            "var_paths": list(given),
            "var_places": [places.get(path, place) for path, place in given.items()],
        }

    def load(self, config: Mapping[str, Any] | Sequence[str] | None) -> None:
        """Takes over what `get_config` returned, or a list of names."""
        if isinstance(config, Mapping):
            self.set([], config.get("var_names", ()))
            self._saved_names = frozenset(self._names)
            paths = config.get("var_paths", ())
            self._saved = dict(zip(paths, config.get("var_places", [-1] * len(paths))))
        elif config is not None:
            self.set([], config)


def _are_alike(one: str, other: str) -> bool:
    """Says whether paths differ in the numbers of automatic names and in what leads only."""
    first, second = (
        [re.sub(r"_\d+$", "", p) for p in path.split("/")] for path in (one, other)
    )
    shorter = min(len(first), len(second))
    comparable = shorter > 1 or len(first) == len(second)
    return comparable and first[-shorter:] == second[-shorter:]
