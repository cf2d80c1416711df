"""What the kinetic temperature of a chain is called, by its ratio to the target."""

from __future__ import annotations

COLD, HOT = 0.8, 1.25
"""Below and above, it is not on target. Discretisation alone gives 1 / (1 - a/2 - h/4), 1.05 to
1.15 in the recipes; the sampling error of a layer's mean over a run is a few percent."""
