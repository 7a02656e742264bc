"""Inputs that nobody meant: each is used, or refused with one readable message."""
