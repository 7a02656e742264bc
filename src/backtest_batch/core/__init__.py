"""What determines a result: data, strategies, the engine, splits and fitting."""
