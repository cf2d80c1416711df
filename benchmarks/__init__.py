"""Measurements, not tests: `make bench` prints them with the hardware's name."""
