"""Which tokens a trained model's answer rests on, by several methods, and how right each one is."""
