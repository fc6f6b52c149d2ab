"""How a failure is shown: its input in hexadecimal, shortened, and a line that repeats it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from verification.calls import CallFailed
from verification.errors import rounded
from verification.exact import Array
from verification.judged import row_error
from verification.results import Finding
from verification.subjects import Subject

_SHOWN = 16  # logits of a reproduction that is written out
_TRIALS = 120  # calls that shortening a failure may take


def repeat_line(subject: Subject, about: dict[str, Any], seed: int) -> str:
    """A line of Python that runs one check again."""
    which = ", ".join(f"{key}={value!r}" for key, value in (about | _how(subject)).items())
    return f"import verification; verification.repeat({subject.name!r}, {which}, seed={seed})"


def value_line(subject: Subject, function: str, row: Array) -> str:
    """A line of Python that calls a subject with a row and shows its error."""
    values = ", ".join(repr(v) for v in hexadecimals(row))
    more = "".join(f", {k}={v!r}" for k, v in _how(subject).items())
    return (
        f"import verification; verification.measure({subject.name!r}, {function!r}, "
        f"[{values}], {row.dtype.name!r}{more})"
    )


def _how(subject: Subject) -> dict[str, str]:
    """What `subjects.load` has to be told beside the name."""
    convention = {"convention": subject.convention} if subject.convention else {}
    return convention | ({"target": subject.target} if subject.target != "cpu" else {})


def number(value: Any) -> str:
    """A number in decimal, and in hexadecimal."""
    value = float(value)
    return f"{value!r} ({hexadecimal(value)})" if np.isfinite(value) else repr(value)


def hexadecimal(value: float) -> str:
    """A number in hexadecimal without its last zeros; ``float.fromhex`` reads it."""
    return re.sub(r"\.?0*p", "p", value.hex())


def hexadecimals(x: Array) -> tuple[str, ...]:
    """The first numbers of an array."""
    return tuple(hexadecimal(float(v)) for v in x.ravel()[:_SHOWN])


def decimals(x: Array) -> tuple[str, ...]:
    """The same in decimal, with the digits that tell the type's numbers apart."""
    return tuple(f"{v!s}" for v in x.ravel()[:_SHOWN])


def described(
    finding: Finding, function: str, x: Array, axis: object, options: str, repeat: str
) -> Finding:
    """The finding with the call that shows it and the first logits."""
    more = (f"and {x.size - _SHOWN:,} more",) if x.size > _SHOWN else ()
    return dataclasses.replace(
        finding,
        values=(*hexadecimals(x), *more),
        decimals=(*decimals(x), *more),
        call=f"{function}(<{x.dtype} array of shape {x.shape}>, axis={axis}{options})",
        python=repeat,
    )


def shortened(subject: Subject, function: str, row: Array, finding: Finding) -> Finding:
    """The finding about the shortest part of the row that fails in the same way, if one does."""
    trials = 0

    def fails(part: Array) -> bool:
        nonlocal trials
        trials += 1
        try:
            return row_error(subject, function, part).kind == finding.kind
        except CallFailed:
            return False

    if row.size > 100_000 or not fails(row):
        return finding
    piece = row.size // 2
    while piece and trials < _TRIALS:
        start = 0
        while start < row.size and trials < _TRIALS:
            part = np.delete(row, np.s_[start : start + piece])
            if part.size and fails(part):
                row = part
            else:
                start += piece
        piece //= 2
    return finding if row.size > _SHOWN else reproduced(subject, function, row, finding)


def reproduced(subject: Subject, function: str, row: Array, finding: Finding) -> Finding:
    """The finding with a row of logits, written out, that shows it."""
    shown = row_error(subject, function, row)
    message = finding.message.partition("; shown on")[0]
    message += f"; shown on {row.size} logit{'s' if row.size > 1 else ''}"
    if np.isfinite(shown.ulp):
        message += f", {shown.ulp:.4g} ULP"
    return dataclasses.replace(
        finding,
        message=message,
        values=hexadecimals(row),
        decimals=decimals(row),
        call=f"{function}(x, axis=-1), x of type {row.dtype} and shape {row[None].shape}",
        got=number(shown.result[shown.place]),
        expected=number(rounded(shown.exact[shown.place], shown.result.dtype.name)),
        python=value_line(subject, function, row),
    )
