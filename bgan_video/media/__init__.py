"""Pictures, contact sheets and films."""
