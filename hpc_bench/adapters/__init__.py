"""Ways to load and ask a model, one file each; `base` holds the contract."""
