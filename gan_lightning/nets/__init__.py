"""What the networks of the papers are built from."""
