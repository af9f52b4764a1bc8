"""Questions that take many runs: comparisons, searches, sweeps, costs, and their reports.

Begin with ``compare/command.py``. A study has a folder of results (``run_store.py``), in which a run is done once; each
run is a process of its own (``worker.py``); tables and figures of all studies come from ``report/``. A sweep is a
comparison of variants of one model. ``tuning/`` searches with Ray or Hyperopt, and ``scaling.py`` measures times.
"""
