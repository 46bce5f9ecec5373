"""Learners: the inner problem, a Q-function trained on the targets that an objective gives."""
