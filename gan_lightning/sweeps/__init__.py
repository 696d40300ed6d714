"""Runs W&B's sweep files without a server: grids enumerated here, random and Bayesian search by W&B's own engine."""
