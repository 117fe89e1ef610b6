"""What lies in a result folder, and how it gets there."""
