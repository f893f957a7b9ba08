"""What the monitor shows, drawn from its samples. No Textual in here."""
