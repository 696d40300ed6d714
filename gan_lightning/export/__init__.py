"""Takes trained networks to other projects: files that need nothing of this package, and functions that load them."""
