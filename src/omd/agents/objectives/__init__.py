"""Objectives: what the model is trained for, the outer loop."""
