"""The command line: composed configurations, messages, files and exit codes."""
