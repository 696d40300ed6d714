"""Train the GANs of the feature-learning papers, freeze them, and measure their features."""

__version__ = "0.1.0"
