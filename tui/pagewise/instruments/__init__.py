"""Instruments: each takes readings from outside the engine. Nothing here needs llama.cpp."""
