"""Ways to start workers, one file each; `base` holds the contract."""
