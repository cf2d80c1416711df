"""What the kinetic temperature of a chain is called, by its ratio to the target."""

from __future__ import annotations

COLD, HOT = 0.8, 1.25
"""Below and above, it is not on target, which has the friction's part of the discretisation in it.
The curvature's part is a few percent in the recipes, and so is the sampling error of a layer's mean
over a run."""
