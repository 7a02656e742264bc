"""``python -m backtest_batch``."""

from backtest_batch.command import begin, end_process

if __name__ == "__main__":
    begin()
    from backtest_batch.cli.main import main

    end_process(main())
