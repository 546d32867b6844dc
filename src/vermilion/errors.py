"""One small tree of errors. Every message is one sentence that names the field and the remedy.

The command line turns `exit_code` into its exit status: 2 for the person's mistake, 1 for
the machine's. Each class carries the HTTP status that a server answers with.
"""

from __future__ import annotations


class VermilionError(Exception):
    """Base of all errors that people are meant to read."""

    exit_code = 1
    http_status = 500


class InputError(VermilionError):
    """Something that a person wrote cannot be used: a brief, a recipe, an option."""

    exit_code = 2
    http_status = 422


class RefusedError(InputError):
    """A prompt or a result breaks a safety rule that refuses; nothing is made or kept of it."""


class NotFoundError(InputError):
    """A model, an asset, a recipe or a file of that name does not exist."""

    http_status = 404


class MissingExtraError(VermilionError):
    """An optional package is not installed; the message has the command that installs it."""

    http_status = 501

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs a part that is not installed: pip install 'vermilion[{extra}]'"
        )


class ModelError(VermilionError):
    """A model's files are broken, truncated, of an unknown kind, or do not fit in memory."""


class UnsafeModelError(InputError):
    """A model file could run code when it is opened (a pickle); it is never opened."""


class FetchError(VermilionError):
    """A download failed or what arrived has the wrong SHA-256."""

    http_status = 502


class StorageError(VermilionError):
    """The disk is full, a folder is read-only, or the library's database is broken."""

    http_status = 507


class SealError(VermilionError):
    """What was sealed does not read back as it should, so it is not released."""
