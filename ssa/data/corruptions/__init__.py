"""Corrupted test images: the official ones, and generated ones."""
