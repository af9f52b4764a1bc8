"""Questions that take many runs: comparisons, searches, sweeps, costs, and their reports."""
