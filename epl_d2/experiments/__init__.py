"""Grids of trainings: configurations x seeds, launched, resumed and summed up with intervals (`tools/run_grid.py`)."""
