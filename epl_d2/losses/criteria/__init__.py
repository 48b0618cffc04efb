"""Losses that take the place of cross entropy in the models of the paper."""
