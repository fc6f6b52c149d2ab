"""What any softmax gets right and wrong, with evidence: ``python -m verification``."""

from typing import TYPE_CHECKING

__all__ = [
    "Finding",
    "Report",
    "Result",
    "SubjectReport",
    "from_json",
    "measure",
    "repeat",
    "to_json",
    "verify",
]

if TYPE_CHECKING:
    from verification.results import Finding, Report, Result, SubjectReport, from_json, to_json
    from verification.runs import measure, repeat, verify
else:

    def __getattr__(name: str) -> object:
        """All is loaded when a name is first asked for.

        So the command line, of which this is imported first, can say in one line what is missing,
        and has Ctrl-C in hand.
        """
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from verification import results, runs
        except ModuleNotFoundError as error:
            needs = f"verification needs {error.name}: python -m pip install 'fastsoftmax[verify]'"
            raise ImportError(needs) from None
        globals()[name] = getattr(runs if hasattr(runs, name) else results, name)
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
