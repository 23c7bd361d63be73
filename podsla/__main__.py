"""`python -m podsla` is `podsla`."""

from podsla.cli import main

if __name__ == "__main__":
    main()
