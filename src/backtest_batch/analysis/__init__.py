"""Pure comparison of runs: DataFrames and arrays in, DataFrames and arrays out."""
