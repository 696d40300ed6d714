"""The parts of adversarial training that papers share: steps by hand, latents, generator updates, fast networks."""
