"""What to label next: the choice of a batch, and the table a person fills in."""
