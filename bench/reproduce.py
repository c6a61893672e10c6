"""`attnbench reproduce`."""

from bench.studies.reproduce.command import main

if __name__ == "__main__":
    raise SystemExit(main())
