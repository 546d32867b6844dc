"""Files → batches. Knows no model."""
