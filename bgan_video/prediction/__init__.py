"""From clips to videos to the posterior mean, and its figures."""
