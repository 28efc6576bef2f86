"""The official test suite, run through the public synchronous API.

`python -m tests.spec` runs every file and reports; `groups.py` says which files need which
proposals and what is skipped, `suite.py` finds and converts the scripts, `values.py` compares
values bit by bit, `runner.py` executes a script's commands.
"""
