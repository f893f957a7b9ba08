"""Profiles in the words of the programs that people deploy with, and back from a llama-server command line."""
