"""Training language models: what `train.loop` is told about them."""
