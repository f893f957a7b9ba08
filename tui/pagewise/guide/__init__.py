"""The small model that ships with the program: its file, and its quant levels made on first use."""
