"""``python -m backtest_batch.verdict``."""

from backtest_batch.command import begin, end_process

if __name__ == "__main__":
    begin()
    from backtest_batch.cli.verdict import main

    end_process(main())
