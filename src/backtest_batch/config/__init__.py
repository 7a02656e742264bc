"""The typed configuration: its keys, what they are for, and which values are allowed."""
