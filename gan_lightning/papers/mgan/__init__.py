"""Mao et al. 2022, *Is Discriminator a Good Feature Extractor?*: M-GAN, the anatomy of features, the density ratio."""
