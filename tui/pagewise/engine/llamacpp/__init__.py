"""llama.cpp through its C interface: the only place that imports llama_cpp."""
