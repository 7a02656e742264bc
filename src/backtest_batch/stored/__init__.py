"""Batches that are in the store: choose them, read them back, and find their files."""
