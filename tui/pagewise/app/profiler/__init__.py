"""The profiler as it is seen: stacks as a flame graph, operators as a table, and what was asked of the host."""
