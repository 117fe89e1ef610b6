"""`python -m hpc_bench`."""

from hpc_bench.cli import main

if __name__ == "__main__":
    main()
