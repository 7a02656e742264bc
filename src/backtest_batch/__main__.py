"""``python -m backtest_batch``."""

import sys

from backtest_batch.command import begin, leave

if __name__ == "__main__":
    begin()
    try:
        from backtest_batch.app import main

        code = main()
    except KeyboardInterrupt:  # while the command itself is imported
        sys.stderr.write("Interrupted; nothing was run.\n")
        code = 130
    leave(code)
