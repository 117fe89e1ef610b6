"""Makes the files that some maskers need, from what a model's queries and keys look like on real texts."""
