"""The method: what is learned from whom."""
