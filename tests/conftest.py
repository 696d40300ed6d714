"""Fixtures for all tests; while they run, every shape annotation in the package is checked."""

from jaxtyping import install_import_hook

hook = install_import_hook("gan_lightning", "beartype.beartype")
hook.__enter__()
