"""Metrics, each equal to the official scorer whose name it carries."""
