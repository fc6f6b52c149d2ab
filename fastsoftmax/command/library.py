"""What the library refuses, as the one line that ends a command."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fastsoftmax.command.refused import Refused
from fastsoftmax.cpu import plan, threads
from fastsoftmax.cuda.driver import driver
from fastsoftmax.files.reading import Unreadable


@contextlib.contextmanager
def refusals(target: str = "cpu") -> Iterator[None]:
    """Refused where a file, the environment or the target is what work cannot be done with."""
    try:
        threads.chosen()
    except ValueError as error:  # of an environment variable
        raise Refused(error) from None
    try:
        if target == "cuda":
            driver()  # before a file is made
        yield
    except (Unreadable, plan.Unavailable) as error:
        raise Refused(error) from None
    except RuntimeError as error:
        if target == "cpu":
            raise
        raise Refused(f"--target {target}: {' '.join(str(error).split())}") from None
