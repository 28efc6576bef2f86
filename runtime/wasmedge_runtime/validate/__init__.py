"""The rules a module must keep before it runs: core specification, chapter 3."""
