"""Language models of bytes: differences between mechanisms, and how loss falls with size."""
