"""Studies: a grid of methods, label counts, folds and seeds, each cell one training run."""
