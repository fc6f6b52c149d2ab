"""What any softmax gets right and wrong, with evidence: ``python -m verification``."""

from verification.results import Finding, Report, Result, SubjectReport, from_json, to_json
from verification.runs import measure, repeat, verify

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
