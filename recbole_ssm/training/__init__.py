"""From a configuration to a trained and tested model.

Begin with ``run.py``. It reads the data, has ``assembly.py`` put the parts together, trains with the trainer of
``trainer.py``, and tests. Batches are trained in ``loop.py``, or in RecBole's own loop for its models. What is added to
RecBole's training is a hook in ``hooks/``, a file for each subject. ``evaluation.py`` tests the model of a checkpoint.

Three files write for three readers: ``log_files.py`` the log file, ``json_log.py`` lines of JSON for programs, and
``console_text.py`` what a person sees in the console.
"""
