"""Liu 2018, *Generative Adversarial Network for Understanding Latent Space*: SelfExGAN."""
