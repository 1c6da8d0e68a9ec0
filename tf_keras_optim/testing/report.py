"""What a run of the conformance kit found."""

import dataclasses

PASSED, FAILED, NOT_RUN = "passed", "FAILED", "not run"


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes:
      name: name of the check.
      status: "passed", "FAILED" or "not run".
      detail: what was found, with numbers.
    """

    name: str
    status: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Report:
    """All outcomes. Printed, it is a table.

    Attributes:
      title: the class, its arguments and the versions.
      results: one for each check.
    """

    title: str
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """The checks that failed."""
        return tuple(result for result in self.results if result.status == FAILED)

    def __str__(self) -> str:
        width = max((len(result.name) for result in self.results), default=0)
        lines = [self.title]
        for result in self.results:
            first, *rest = (result.detail or "").splitlines() or [""]
            lines.append(f"  {result.status:<8} {result.name:<{width}}  {first}".rstrip())
            lines += [f"{'':{width + 13}}{line}" for line in rest]
        return "\n".join(lines)


class ConformanceError(AssertionError):
    """An optimizer failed checks; `report` has all of them.

    Args:
      report: the report.
    """

    def __init__(self, report: Report):
        super().__init__(str(report))
        self.report = report


class NotRunError(Exception):
    """A check cannot be run here, or says nothing about this optimizer; the text is why."""
