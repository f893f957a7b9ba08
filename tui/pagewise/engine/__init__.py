"""The process that owns one model: it loads, decodes and samples, and does nothing else in Python while it does."""
