"""A step as one graph: the same training as without it, with a stand-in for the graph where there is no GPU."""
