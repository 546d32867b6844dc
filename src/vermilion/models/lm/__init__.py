"""Transformer language models of the Llama family. Read net.py first, then sample.py."""
