"""Donahue et al. 2017, *Adversarial Feature Learning*: BiGAN, its baselines, and its theory on finite spaces."""
