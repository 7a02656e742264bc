"""Market data: panels, their sources, validation and cache."""
