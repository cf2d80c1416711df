"""Whose labels a run may use: by number, by draw or from a list."""
