"""What any softmax gets right and wrong, with evidence: ``python -m verification``."""

try:
    from verification.results import Finding, Report, Result, SubjectReport, from_json, to_json
    from verification.runs import measure, repeat, verify
except ModuleNotFoundError as error:
    _missing = error.name

    # The command line goes on, to say this in one line.
    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(name)
        raise ImportError(f"verification needs {_missing}: python -m pip install '.[verify]'")


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
