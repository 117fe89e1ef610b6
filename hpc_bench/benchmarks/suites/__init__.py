"""The benchmarks, one file each: load, prompt, score."""
