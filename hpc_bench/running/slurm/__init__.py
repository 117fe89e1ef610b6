"""The Slurm backend: job arrays of workers, throttled together."""
