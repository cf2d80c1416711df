"""The clip store: videos decoded once, written, read and verified."""
