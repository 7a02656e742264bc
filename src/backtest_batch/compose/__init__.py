"""From a request to composed configurations, by Hydra's grammar and its config groups."""
