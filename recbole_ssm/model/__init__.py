"""The models. Each is one file, one yaml in ``properties/model`` and one line in ``registry.py``."""
