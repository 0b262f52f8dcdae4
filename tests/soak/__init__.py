"""Long audits, run by hand: `make soak`, or one with `python -m tests.soak.<name> [SECONDS]`.

Each module here is one audit. Its `main(seconds)` runs for about that long (absent: as long as the audit should take by hand), prints
its seed first and its figures at the end, and raises where a promise was broken. pytest does not collect this folder; a short version of
each audit is a test in `tests/unit` or `tests/faults` that calls the same functions.
"""
