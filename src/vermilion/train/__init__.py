"""Training. The loop knows no family of models."""
