"""The building blocks of the papers' networks."""
