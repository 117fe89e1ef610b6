"""hpc-bench: models x sparse attention configs x long-context benchmarks, on one machine or a Slurm cluster."""
