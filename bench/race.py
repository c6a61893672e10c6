"""`attnbench race`: make the best table of tasks that a time buys, budget=10m."""

from bench.studies.rates.race import main

if __name__ == "__main__":
    raise SystemExit(main())
