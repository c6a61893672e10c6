"""`attnbench rates`."""

from bench.studies.rates.search import main

if __name__ == "__main__":
    raise SystemExit(main())
