"""``python -m pagewise``: the same as the command ``pagewise``."""

from pagewise.cli import main

main()
