"""Logging to W&B."""
