"""`hpc-bench doctor`: checks what a sweep will need, one file a place that is looked at."""
