"""What adversarial training needs whatever the paper: steps by hand, latents, generator updates, fast networks."""
