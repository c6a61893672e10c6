"""Golden files: the authors' numbers, read, rebuilt and compared."""
