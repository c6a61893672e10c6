"""The harness: config → cells → records → table."""
