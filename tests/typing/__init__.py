"""Uses of the public names that type checkers must accept, with the types they must find, and
mistakes that they must find too.

Nothing here is run: mypy and pyright, both strict, read it in `make lint`. Where a line is marked
as an error for both, a signature that has become so loose that it allows the mistake fails, because
a mark without an error is one. `test_complete.py` checks that no public member is left out.
"""
