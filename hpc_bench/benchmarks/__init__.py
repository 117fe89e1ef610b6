"""The benchmarks, one file each; `base` holds the contract."""
