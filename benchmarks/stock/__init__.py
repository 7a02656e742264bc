"""A plain application of stock parts, to compare with: Hydra, joblib, MLflow, vectorbt."""
