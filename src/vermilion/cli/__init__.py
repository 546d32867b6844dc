"""The command line: thin commands over the Python door.

The commands reach everything through `import vermilion as vm`, whose names are resolved when
they are used: `vermilion --help` loads neither torch nor the library.
"""

from vermilion.cli.app import app, main

__all__ = ["app", "main"]
