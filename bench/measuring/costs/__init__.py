"""Costs of a call: memory by a dry run, and FLOPs by formulas that are proven."""
