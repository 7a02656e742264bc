"""``python -m backtest_batch.monitor``."""

from backtest_batch.command import begin, end_process

if __name__ == "__main__":
    begin()
    from backtest_batch.cli.monitor import main

    end_process(main())
