"""What must be true of a batch that has come through a storm."""

import os
from pathlib import Path

from benchmarks.storm.sandbox import Grid, Sandbox

RUN_FILES = (
    "config.yaml",
    "equity.parquet",
    "metrics.csv",
    "profile",
    "run.json",
    "target_weights.parquet",
    "trades.parquet",
)
"""Files of every run of a small batch."""

BATCH_FILES = (
    "batch_config.yaml",
    "batch_summary.csv",
    "batch_summary.md",
    "batch_timings.json",
    "best_params.json",
    "best_params_summary.md",
    "overfitting.json",
    "rankings.csv",
    "report.html",
    "returns.parquet",
    "sensitivity_analysis.csv",
)
"""Files of every batch of several runs, in its folder and in the store."""

OWN_FOLDERS = {"logs", "trials.json"}
"""What a folder of a batch has beside them."""


def violations(sandbox: Sandbox, grid: Grid, reference: bytes, *, spoiled: bool) -> list[str]:
    """Return one sentence for each thing that is not as it must be."""
    return [
        *_recorded(sandbox, grid),
        *_reports(sandbox, reference),
        *_stray(sandbox, spoiled=spoiled),
    ]


def _recorded(sandbox: Sandbox, grid: Grid) -> list[str]:
    wrong = []
    running = sandbox.query("select run_uuid from runs where status = 'RUNNING'")
    if running:
        wrong.append(f"{len(running)} runs are RUNNING in the store")
    rows = sandbox.query(
        "select role.value, run.value, key.value, r.status, r.artifact_uri, batch.value from runs r"
        " join tags role on role.run_uuid = r.run_uuid and role.key = 'batch_role'"
        " join tags name on name.run_uuid = r.run_uuid and name.key = 'batch_name'"
        "  and name.value = 'sweep'"
        " left join tags run on run.run_uuid = r.run_uuid and run.key = 'run_id'"
        " left join tags key on key.run_uuid = r.run_uuid and key.key = 'run_key'"
        " left join tags batch on batch.run_uuid = r.run_uuid and batch.key = 'batch_id'"
        " where r.lifecycle_stage = 'active'"
    )
    parents = [row for row in rows if row[0] == "batch"]
    complete = [row for row in parents if row[3] == "FINISHED"]
    if len(complete) != 1:
        wrong.append(f"{len(complete)} complete batches in the store instead of 1")
    batch_id = complete[0][5] if complete else None
    runs = [row for row in rows if row[0] == "run" and row[5] == batch_id]
    finished = [row for row in runs if row[3] == "FINISHED"]
    if len(finished) != grid.n_runs or len(runs) != grid.n_runs:
        states = sorted({row[3] for row in runs})
        wrong.append(f"{len(runs)} runs recorded ({states}) instead of {grid.n_runs} FINISHED")
    if len({row[2] for row in runs}) != len(runs):
        wrong.append("a run is recorded more than once")
    bare = sorted(row[1] for row in finished if not _has(row[4], RUN_FILES))
    if bare:
        wrong.append(f"FINISHED without all files: {bare}")
    wrong += [
        f"the batch lacks files in the store: {_lacks(row[4], BATCH_FILES)}"
        for row in complete
        if not _has(row[4], BATCH_FILES)
    ]
    return wrong


def _reports(sandbox: Sandbox, reference: bytes) -> list[str]:
    wrong = []
    whole = [batch for batch in sandbox.batches if (batch / "rankings.csv").exists()]
    if not whole:
        return ["no rankings.csv in any folder of a batch"]
    for batch in whole:
        lacking = [name for name in BATCH_FILES if not (batch / name).exists()]
        if lacking:
            wrong.append(f"the folder of the batch lacks {lacking}")
        if (batch / "rankings.csv").read_bytes() != reference:
            wrong.append("rankings.csv differs from that of a batch without faults")
    return wrong


def _stray(sandbox: Sandbox, *, spoiled: bool) -> list[str]:
    wrong = []

    def check(folder: Path, allowed: set[str]) -> None:
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if names - allowed:
            wrong.append(f"stray files in {folder.name}: {sorted(names - allowed)}")

    check(sandbox.work, {"held.py", "mlruns", "reports"})
    check(sandbox.work / "mlruns", {"mlflow.db", "artifacts", "batches"})
    for batch in sandbox.batches:
        check(batch, {*BATCH_FILES, *OWN_FOLDERS})
    # Where the cache takes no files, a private folder stands in for it, and stays as a cache does.
    spare = sandbox.temporary / f"backtest_batch-{os.geteuid()}"
    check(sandbox.temporary, {spare.name})
    check(spare, {"code", "numba", "panels", "sources"})
    known = {row[0] for row in sandbox.query("select run_uuid from runs")}
    if not spoiled:
        check(sandbox.work / "mlruns" / "artifacts", known)
    return wrong


def _has(address: str, names: tuple[str, ...]) -> bool:
    return not _lacks(address, names)


def _lacks(address: str, names: tuple[str, ...]) -> list[str]:
    folder = Path(address.removeprefix("file://"))
    return [name for name in names if not (folder / name).exists()]
