"""The HTTP service: recommendations for histories and sessions, with FastAPI."""
