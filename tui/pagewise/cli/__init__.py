"""The command line: parses, then hands on. Each command's own modules are imported when it runs, and not before."""

from pagewise.cli.program import main

__all__ = ["main"]
