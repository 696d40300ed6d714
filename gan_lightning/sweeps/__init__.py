"""Runs W&B's sweep files without a server: grids, random search, Bayesian search by Optuna, early stopping."""
