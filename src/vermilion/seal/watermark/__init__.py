"""Watermarks: what a file still says of itself when its labels are gone.

`payload` is what is hidden, `key` what hides it, `picture`, `sound` and `text` are where.
"""
