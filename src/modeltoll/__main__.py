"""``python -m modeltoll``."""

from modeltoll.cli import main

if __name__ == "__main__":
    main()
