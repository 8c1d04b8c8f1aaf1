"""The residual stream of a model as a picture, with every gain at its place."""
