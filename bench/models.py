"""`python -m bench.models`: docs/models.md."""

import sys

from bench.studies.catalogue.models_page import main

if __name__ == "__main__":
    sys.exit(main())
