"""`attnbench list`: show the mechanisms, what they can do and what is proven."""

from bench.studies.catalogue.listing import main

if __name__ == "__main__":
    raise SystemExit(main())
