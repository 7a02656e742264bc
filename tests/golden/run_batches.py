"""Run batches one after the other in this process: one start of the program for all of them.

Reads a JSON list of argument lists from standard input; the exit codes are the last line printed.
"""

import json
import sys

from backtest_batch.cli.main import main

if __name__ == "__main__":
    print(json.dumps([main(arguments) for arguments in json.load(sys.stdin)]))
