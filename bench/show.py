"""`attnbench show`: show all that is known of one mechanism."""

from bench.studies.catalogue.showing import main

if __name__ == "__main__":
    raise SystemExit(main())
