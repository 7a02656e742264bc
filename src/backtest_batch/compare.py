"""``python -m backtest_batch.compare``."""

from backtest_batch.command import begin, leave

if __name__ == "__main__":
    begin()
    from backtest_batch.cli.compare import main

    leave(main())
