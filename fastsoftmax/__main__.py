"""`python -m fastsoftmax`, or `fastsoftmax`: the command line."""

import io
import os
import sys


def main() -> int:
    """As `command.main`, from where it is not loaded yet: 130 for Ctrl-C here too."""
    # Python has none of those that were closed. What is opened first takes their places.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # files may have any name
    try:
        from fastsoftmax import command

        return command.main()
    except KeyboardInterrupt:
        print("fastsoftmax: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
