"""The maskers, one file each: a frozen dataclass is both the parameters and the method."""
