"""The judge: says from the log and the database alone whether anything was lost, doubled, skipped or written by a zombie.

It shares nothing with what it judges but the JSON on the log and the tables' columns: it reads both by the drivers
themselves (`evidence.py`), computes what the state must be in its own way (`fold.py`), and compares (`checks.py`).
"""
