"""Prices to target weights."""
