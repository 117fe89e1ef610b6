"""What came of an execution: cells, averages, comparisons, and their tables and files."""
