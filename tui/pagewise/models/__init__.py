"""Models on disk: the GGUF header, quant types, layers and their byte ranges."""
