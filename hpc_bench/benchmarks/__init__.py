"""The benchmarks, one file each in `suites`; `base` holds the contract."""
