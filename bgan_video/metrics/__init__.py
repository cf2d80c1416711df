"""Numbers that say how good probabilities, features and differences are."""
