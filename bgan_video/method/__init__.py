"""What the paper is: losses, the objective of both players, the pretext task, when to sample."""
