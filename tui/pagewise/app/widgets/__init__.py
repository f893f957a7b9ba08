"""The widgets: all hand-drawn from lines of spans, and repainted only where they changed."""
