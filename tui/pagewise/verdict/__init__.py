"""What bounds a token: measured peaks, and the rules that compare them with what a turn did."""
