"""What runs the groups of a sweep: worker processes of this machine, or a Ray cluster."""
