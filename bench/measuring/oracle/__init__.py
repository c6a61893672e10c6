"""The float64 oracle: what a call should return, and the check of what it returned."""
