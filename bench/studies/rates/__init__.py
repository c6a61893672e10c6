"""`attnbench rates`: search a learning rate for each row and task, and keep it as a preset.

`search` is the command; `tuned` trains the arms of a comparison.
Grids are in `bench.core.grid`, presets in `bench.core.presets`.
"""
