"""The engine: the one process that holds a model, and the pipe to its worker."""
