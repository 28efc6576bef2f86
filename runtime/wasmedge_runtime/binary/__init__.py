"""From bytes to the AST: core specification, chapter 5."""
