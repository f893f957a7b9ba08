"""What the person sees: screens, gauges and themes. Imports neither llama_cpp nor numpy."""
