"""Whether a strategy knows the future, needs more history than it says, and repeats itself."""
