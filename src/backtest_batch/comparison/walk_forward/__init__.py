"""Walk-forward: choose in-sample, judge out-of-sample."""
