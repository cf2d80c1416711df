"""The training loop, its chains, checkpoints and records."""
