"""What there is: lists, pages, rows, badges, and the files of a new mechanism."""
