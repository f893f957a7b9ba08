"""Records: what a client was told, kept in a file; read again by replay and report."""
