"""Weber 2021, *The Hidden Tasks of Generative Adversarial Networks*: inverse examples and inductive bias."""
