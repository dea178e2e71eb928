"""``python -m searchlib``."""

from searchlib.cli import main

if __name__ == "__main__":
    main()
