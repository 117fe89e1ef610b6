"""Reading rows of benchmark data, from local files or from the hub."""
