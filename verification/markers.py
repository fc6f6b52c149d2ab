"""What a command writes into README.md stands between two markers, which have a name."""

from __future__ import annotations

import re


def between(text: str, name: str) -> str:
    """What stands between the markers of that name.

    Raises
    ------
    ValueError
        Where they are not there.
    """
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"no <!-- {name} --> ... <!-- /{name} --> in the file")
    return found[1]


def replaced(text: str, name: str, table: str) -> str:
    """The text with another table between the markers."""
    old = between(text, name)
    return text.replace(
        f"<!-- {name} -->\n{old}<!-- /{name} -->", f"<!-- {name} -->\n{table}<!-- /{name} -->"
    )
