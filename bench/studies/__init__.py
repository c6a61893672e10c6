"""Questions asked of the harness: each folder is one, with its settings, runs, tables and page."""
