"""The catalogue of mechanisms: list, show, pages of docs/, and the files of a new mechanism."""
