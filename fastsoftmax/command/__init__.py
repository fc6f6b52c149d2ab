"""The command line: `fastsoftmax score`, `info`, `warmup` and `completion`.

Help, versions, completions and refusals of what is misspelt come before NumPy and Numba are
imported, which take half a second: modules of the library are imported by the functions that
commands call, at the time that they are called.
"""

from fastsoftmax.command.running import main

__all__ = ["main"]
