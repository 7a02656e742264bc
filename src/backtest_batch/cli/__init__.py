"""The commands: from their arguments to what they print and return."""
