"""Tasks that mechanisms are trained on: one file each, around one shared model and loop."""
