"""Planted bugs, each with the test file that catches it."""
