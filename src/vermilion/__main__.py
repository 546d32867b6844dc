"""`python -m vermilion` is `vermilion`."""

from vermilion.cli import main

main()
