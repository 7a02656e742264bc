"""What is tried: which combinations hold, and what a search proposes; without mlflow or hydra."""
