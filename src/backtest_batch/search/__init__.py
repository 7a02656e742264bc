"""What is tried: which combinations of a grid count, and what a search proposes."""
