"""How fast searchlib is, against the other ways to do the same work on the same machine: ``python -m benchmarks``."""
