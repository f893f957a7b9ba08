"""The monitor: finds the processes of this box that hold a GGUF model, and reads them from outside."""
