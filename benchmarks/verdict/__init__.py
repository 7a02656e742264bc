"""Operating characteristics of the whole verdict: how often it is wrong, and what it finds."""
