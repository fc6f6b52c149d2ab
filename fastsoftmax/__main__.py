"""`python -m fastsoftmax`, or `fastsoftmax`: the command line."""

import sys


def main() -> int:
    """As `command.main`, from where NumPy and Numba are not loaded yet: 130 for Ctrl-C here too."""
    try:
        try:
            from fastsoftmax import command
        except ValueError as error:  # of an environment variable
            print(f"fastsoftmax: {error}", file=sys.stderr)
            return 2
        return command.main()
    except KeyboardInterrupt:
        print("fastsoftmax: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
