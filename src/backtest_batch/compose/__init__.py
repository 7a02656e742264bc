"""From what is asked for to composed configurations, by Hydra's grammar and its config groups."""
