"""Plan, compute and watch the runs of a batch."""
