"""What is known of a failure of Google Cloud Storage."""

from __future__ import annotations


class StorageError(OSError):
    """Why Google Cloud Storage can't be used, if that is known.

    Attributes:
        advice: what to do; whole sentences, or empty.
        status: 404 if there is no such bucket.
    """

    def __init__(self, cause: str, advice: str = "", status: int | None = None) -> None:
        super().__init__(cause)
        self.advice = advice
        self.status = status
