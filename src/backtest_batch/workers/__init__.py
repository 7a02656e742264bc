"""The processes that compute the runs of a batch, on this machine or on a cluster."""
