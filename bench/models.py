"""`python -m bench.models`: docs/models.md."""

from bench.studies.catalogue.models_page import main

if __name__ == "__main__":
    raise SystemExit(main())
