"""The seal: what says that a file was made by AI, proves it, and lets it be checked.

`seal.py` is the file to read first: the line that every export passes.
"""
