"""Reads run folders and draws what they say as one page that needs nothing else."""
