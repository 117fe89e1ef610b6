"""Sparse attention building blocks, one file each; `base` holds the contract, `bias` turns a chain into a bias."""
