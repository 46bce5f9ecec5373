"""A run on disk: its folder and files, its checkpoint, what made it; to load and to resume it."""
