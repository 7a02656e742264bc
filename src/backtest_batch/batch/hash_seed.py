"""The seed of Python's hashes, on which the order of sets of text depends.

Python draws one for each process. A strategy that goes through a set of symbols would come to
another result in each worker, so that workers are started with one that is fixed and recorded.
"""

import os
import sys

VARIABLE = "PYTHONHASHSEED"
FIXED = "0"


def hash_seed() -> str:
    """Return what workers start with: what the user has set (also ``random``), else 0."""
    if sys.flags.ignore_environment:  # python -E, -I: so are the workers
        return "random"
    return os.environ.get(VARIABLE) or FIXED
