"""Contrastive models: pictures and texts, or two views of a picture, as vectors that lie close."""
