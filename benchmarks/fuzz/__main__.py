"""Feed the product inputs that nobody meant, and say which of them it did not take well.

    python -m benchmarks.fuzz --cases 10000 --seed 7
    python -m benchmarks.fuzz --cases 500 --kinds csv_bytes parquet_bytes
    python -m benchmarks.fuzz --case csv_bytes 17 --seed 7        one case again

Every case must end as documented: the input is used, or refused with a readable message; within
20 s; and nothing is written but mlruns and what the case itself wrote. The seed fixes every input.
"""

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from benchmarks.fuzz.cases import KINDS, plan
from benchmarks.fuzz.run import Finding, place, run_case


def main() -> int:
    """Run the cases, print what was found, and return 1 when something was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=sorted(KINDS))
    parser.add_argument("--case", nargs=2, metavar=("KIND", "NUMBER"))
    given = parser.parse_args()
    cases = [(given.case[0], int(given.case[1]))] if given.case else plan(given.cases, given.kinds)
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, place(Path(folder)) as ground:
        for kind, number in cases:
            finding = run_case(kind, number, given.seed, ground)
            if finding is not None:
                findings.append(finding)
                print(f"{kind} {number}: {finding.said}")
                if given.case:
                    traceback.print_exception(finding.error)
    print(f"seed {given.seed}: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
