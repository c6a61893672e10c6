"""FLOP formulas against what counters see and what slow forms take."""
