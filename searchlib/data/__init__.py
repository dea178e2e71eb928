"""Data sets: what each is, where its files come from, how it is read, and how it is split."""

from searchlib.data.dataset import Dataset, Examples, picture
from searchlib.data.datasets import DATASETS, fetch, get_dataset, load_test, load_train
from searchlib.data.functions import FunctionPart, function_dataset
from searchlib.data.idx import idx_dataset
from searchlib.data.splits import Split, redraw, split

__all__ = [
    "DATASETS",
    "Dataset",
    "Examples",
    "FunctionPart",
    "Split",
    "fetch",
    "function_dataset",
    "get_dataset",
    "idx_dataset",
    "load_test",
    "load_train",
    "picture",
    "redraw",
    "split",
]
