"""The small process on the box that reads instruments and supervises engines. No llama.cpp is in it."""
