"""What the paper is: losses, the objective of both players, rounds, when to sample."""
