"""Training of pictures and words as vectors: SimCLR and CLIP."""
