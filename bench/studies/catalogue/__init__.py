"""The catalogue: lists, pages, rows, badges, and the files of a new mechanism."""
