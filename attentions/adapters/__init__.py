"""The same mechanisms by other packages, which are skipped where these are not installed."""
