"""`attnbench new`: write the files of a new mechanism, to be filled in."""

from bench.studies.catalogue.new import main

if __name__ == "__main__":
    raise SystemExit(main())
