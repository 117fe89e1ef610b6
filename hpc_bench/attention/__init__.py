"""Sparse attention: `maskers` holds the building blocks, `base` the contract; `bias` turns a chain into a bias."""
