"""Chunks computed by a cluster: Dask's or Ray's.

Dask or Ray sends a chunk to one of its workers and returns the answer, and sends it to another one
when that worker or its machine is lost. On the worker, :mod:`.agent` computes it in a separate
process, the same that loky runs on one machine, so that a run which crashes, hangs or grows costs
that process and not the worker. Which run failed, and whether it is retried, is decided where the
command runs, by the executor that all backends share.
"""
