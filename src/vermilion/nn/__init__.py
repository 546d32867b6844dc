"""Blocks that several model families use unchanged."""
