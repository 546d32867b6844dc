"""Training diffusion models: what `train.loop` is told about them."""
