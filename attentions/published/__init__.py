"""The authors' own operators, as entries of their own beside ours."""
