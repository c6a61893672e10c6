"""Explain which tokens a trained model's answer rests on, and score the methods that say so."""
