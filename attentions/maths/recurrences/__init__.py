"""Recurrences over a state: decays, delta rules, chunks, gates."""
