"""What is asked: reading a sweep, expanding it into stubs, planning against what is on disk."""
