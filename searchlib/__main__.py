"""``python -m searchlib``."""

from searchlib.cli.main import main

if __name__ == "__main__":
    main()
