"""What of a model that is larger than memory stays in memory, and what is read again for every token."""
