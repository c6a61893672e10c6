"""From a configuration to records: plan, workers, measurement and training. Needs torch."""
