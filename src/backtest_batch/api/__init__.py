"""The Python API: what the two commands do, on plain objects and DataFrames."""
