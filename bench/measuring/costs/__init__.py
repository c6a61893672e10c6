"""What a call costs: memory by a dry run, and FLOPs by formulas that are proven."""
