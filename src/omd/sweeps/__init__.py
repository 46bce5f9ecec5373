"""Sweeps: a grid of settings as lanes, in groups of one shape. `spec` reads grids, `plan` makes
groups and counts their cost, `store` is the folder, `group` runs one, the engines run all."""
