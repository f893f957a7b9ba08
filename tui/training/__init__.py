"""Trains the guide: the small model that ships with pagewise. Not part of the installed program."""
