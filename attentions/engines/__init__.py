"""Engines: a mechanism says its formula, and the engine does the rest. Public in `attentions`."""
