"""The pages of docs/results: records of what was measured, the tables made of them, and the papers' claims."""
