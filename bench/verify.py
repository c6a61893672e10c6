"""`attnbench verify`: prove, show, write."""

from bench.studies.verify.command import main

if __name__ == "__main__":
    raise SystemExit(main())
