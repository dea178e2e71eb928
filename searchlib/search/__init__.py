"""The search and the replicates' race: which trials next, trained, recorded."""

from searchlib.search.optimize import search

__all__ = [
    "search",
]
