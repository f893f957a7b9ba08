"""The gauges: for each, what it draws from the readings and how it explains itself. No Textual in here."""
