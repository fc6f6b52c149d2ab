"""`python -m fastsoftmax`: the command line."""

from fastsoftmax.command import main

if __name__ == "__main__":
    raise SystemExit(main())
