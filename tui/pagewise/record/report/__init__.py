"""What a record comes to: its figures, plots of them on one page, and tables."""
