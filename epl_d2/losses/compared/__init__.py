"""Losses that EPL is compared with."""
