"""What ends a command with one line for stderr."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Refused(Exception):
    """A wrong call, or something that cannot be done: one line for stderr, exit status 2."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A question that names the nearest of the known names; nothing where none is near."""
    bare = {name.lstrip("-"): name for name in known}  # or all options would be near each other
    word = given.lstrip("-")
    begun = [name for name in bare if len(word) > 1 and name.startswith(word)]
    nearest = begun or difflib.get_close_matches(word, bare, n=1, cutoff=0.7)  # gpu is no cpu
    return f" Did you mean {bare[nearest[0]]!r}?" if nearest else ""
