"""Profiles: the TOML files, what they say, what a change of them costs."""
