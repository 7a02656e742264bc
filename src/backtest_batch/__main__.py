"""``python -m backtest_batch``."""

import sys

if __name__ == "__main__":
    try:
        from backtest_batch.app import main

        code = main()
    except KeyboardInterrupt:  # while the command itself is imported
        sys.stderr.write("Interrupted; nothing was run.\n")
        code = 130
    sys.exit(code)
