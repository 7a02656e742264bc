"""A storm of faults at seeded moments, and what must be true of each batch afterwards."""
