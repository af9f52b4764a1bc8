"""The command line: a file for each verb.

Begin with ``main.py``, which finds the verb, and ``inspect.py``, the shortest of them. A verb has a ``parser``
(``parser.py``; types of options are in ``types.py``) and a ``call``, which hands over to a room below.
"""
