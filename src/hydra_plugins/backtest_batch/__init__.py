"""Hydra's thin face: the sweeper and the launcher. All use of Hydra's private API is in here."""
