"""What a model costs, and where its losses pull: for the tools alone."""
