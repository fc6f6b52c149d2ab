"""The README's tables: written between markers by a command, and checked to be no older.

python -m verification.readme            # measure, and write the tables into README.md
python -m verification.readme --check    # exit status 1 where a column is stale
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from verification import gpu, pictures, questions, speed, spreads, subjects
from verification.markers import between, replaced
from verification.measured import FOLDER
from verification.report import to_markdown
from verification.runs import verify

COMPARED = ("fastsoftmax", "scipy", "torch", "onnxruntime")
CHECKED = ("fastsoftmax", "scipy")
# "252 of 297; 1 infinite, 14 unexplained"
_COUNT = re.compile(r"([\d,]+) of ([\d,]+)(?:; (.+))?$")


def columns(table: str) -> dict[str, dict[str, str]]:
    """A Markdown table as cells by column (the first word of its head) and row."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = [head.split()[0] if head else "" for head in rows[0]]
    return {
        name: {row[0]: row[index] for row in rows[2:]} for index, name in enumerate(names) if index
    }


def same(ours: str, measured: str, exactly: bool) -> bool:
    """Whether a cell still says what is measured.

    Our bits are the same on every CPU, so our column must be too. SciPy's depend on the vectors
    that NumPy finds: an error may differ by a factor of 2, a count by a tenth of its total.
    """
    if ours == measured:
        return True
    if exactly:
        return False
    a, b = _counts(ours), _counts(measured)
    if a and b:
        total = a["of"]
        return b["of"] == total and all(abs(a[k] - b[k]) <= total / 10 for k in {*a, *b})
    first, second = ours.split("; "), measured.split("; ")
    return len(first) == len(second) and all(map(_within_a_factor_of_2, first, second))


def _within_a_factor_of_2(first: str, second: str) -> bool:
    try:
        a, b = (float(text.removesuffix(" %").removeprefix("< ")) for text in (first, second))
    except ValueError:
        return first == second
    return max(a, b) <= 2 * min(a, b)


def _counts(cell: str) -> Counter[str]:
    """A count of checks by words: those that held, of how many, and what the others are."""
    found = _COUNT.match(cell)
    if not found:
        return Counter()
    held, total, others = found.groups()
    words = [part.split(" ", 1) for part in (others or "").split(", ") if part]
    numbers = {"held": held, "of": total} | {kind: number for number, kind in words}
    return Counter({kind: int(number.replace(",", "")) for kind, number in numbers.items()})


def stale(written: str, measured: str) -> list[str]:
    """The cells of the checked columns that say something else than what is measured."""
    old, new = columns(written), columns(measured)
    found = []
    for name in CHECKED:
        for row, value in new[name].items():
            there = old.get(name, {}).get(row, "nothing")
            if not same(there, value, exactly=name == "fastsoftmax"):
                found.append(f"{name}, {row}: the README has {there!r}, measured {value!r}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables (0), or check them (0, or 1 where one is stale); 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="python -m verification.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="measure and compare, write nothing")
    parser.add_argument("file", nargs="?", type=Path, default=Path("README.md"))
    options = parser.parse_args(arguments)
    folder = options.file.parent / FOLDER
    try:
        text = options.file.read_text()
        made = {table.marker: table.section(folder) for table in speed.TABLES}
        made[gpu.MARKER] = gpu.section(options.file.parent / gpu.RUN)
        for name in ("verification", spreads.MARKER, "questions", *made):
            between(text, name)
    except (OSError, ValueError) as error:
        print(f"cannot use {str(options.file)!r}: {error}", file=sys.stderr)
        return 2
    compared = CHECKED if options.check else COMPARED
    missing = [f"{n} (needs {subjects.known()[n][1]})" for n in compared if subjects.known()[n][1]]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    errors = list(spreads.measured(compared))
    measured = {
        "verification": to_markdown(verify(compared)),
        spreads.MARKER: spreads.table_of(errors),
    }
    if options.check:
        found = [
            line for name, table in measured.items() for line in stale(between(text, name), table)
        ]
        for name, table in made.items():
            if between(text, name) != table:
                found.append(f"the table of {name} is not what is kept in {FOLDER}")
        print("\n".join(found) or "the README's tables are as measured")
        return 1 if found else 0
    today = datetime.datetime.now(datetime.UTC).date()
    answers = questions.to_markdown() + f"\nMeasured {today}, with the versions above.\n"
    for name, table in (measured | made | {"questions": answers}).items():
        text = replaced(text, name, table)
    options.file.write_text(text)
    (folder / spreads.KEPT).write_text(spreads.to_json(errors), encoding="utf-8")
    pictures.write(folder)
    print(f"tables written into {options.file}, pictures into {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
