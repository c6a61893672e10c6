"""The command line: composed configurations, messages, files and the way to an exit code."""
