"""pagewise: chat with a local model, beside instruments that show where its bytes and its milliseconds are."""

__version__ = "0.1.0"
