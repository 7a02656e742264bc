"""``python -m backtest_batch``."""

import sys

if __name__ == "__main__":
    from backtest_batch.app import main

    sys.exit(main())
