"""mathlib beside what else a researcher could install: ``make bench-math``.

Each peer runs in a process of its own on one thread and takes turns with mathlib on the same
inputs; every speed stands beside the errors of both.
"""
