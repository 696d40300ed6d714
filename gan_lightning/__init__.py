"""Train the GANs of the feature-learning papers, freeze them, and measure what they have learned."""

__version__ = "0.1.0"
