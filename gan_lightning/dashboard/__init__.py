"""Reads run folders and draws their content as one self-contained page."""
