"""A trained run taken away: one program of all its networks, or a folder for a model hub."""
