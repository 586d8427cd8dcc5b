"""Specifications of runs and their ids, and the reading of settings."""
