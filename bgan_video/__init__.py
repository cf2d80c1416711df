"""Semi-supervised video classification with Bayesian GANs."""
