"""What lies on disk of an execution: its manifest, claims, heartbeats, outcomes and results."""
