"""`attnbench rates`: search a learning rate for each row and task, and keep it as a preset.

`presets` are what was found, `grid` what is tried and how the best is told, `search` the command.
"""
