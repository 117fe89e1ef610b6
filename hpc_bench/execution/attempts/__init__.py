"""Attempts at stubs: who claimed one, how it ended, what that costs, and where each stub stands."""
