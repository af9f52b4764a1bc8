"""Files of trained models and of trainings as they stand.

``format.py`` reads and writes a file, and ``contents.py`` says what stands in it. ``load.py`` makes models of files.
``configuration.py`` has the settings that a model is used with, ``latest.py`` finds trainings to resume, ``begin.py``
begins a training with earlier weights, and ``describe.py`` is for ``inspect``.
"""
