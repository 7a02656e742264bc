"""Chunks computed by a cluster: Dask's or Ray's.

The engine carries a chunk to one of its workers and back, and carries it to another one when that
worker or its machine is lost. On the worker, :mod:`.agent` computes it in a process of its own,
the same that loky runs on one machine, so that a run which crashes, hangs or grows costs that
process and not the engine's. What failed, and whether it is tried again, is decided where the
command runs, by the executor that all backends share.
"""
