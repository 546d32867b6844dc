"""Diffusion models of pictures. Read schedule.py first, then net.py and samplers."""
