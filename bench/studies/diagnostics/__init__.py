"""Diagnostics of attention weights: `measures` has the numbers, `look` and `trained` use them."""
