"""`attnbench rates`: search a learning rate for each row and task, and keep it as a preset.

`search` is the command and `race` the one under a time budget; `tuned` trains the arms of a
comparison, and `rows` is what they share. Grids are in `bench.core.grid`, presets in
`bench.core.presets`.
"""
