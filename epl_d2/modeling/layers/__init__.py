"""Layers that several heads are made of."""
