"""The catalog of models on this machine: where to look, what is there, what each file is, and how they belong."""
