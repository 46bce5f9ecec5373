"""Results as data: frames, statistics over seeds, claims held against them."""
