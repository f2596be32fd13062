"""Keys of signed URLs that are derived from a secret which processes on several machines share.

A key is made of the secret and of the number of the day (or whatever the period is), so all of them have the
same keys at the same time, and an old one is known for as long as a URL that it has signed may live.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence

from wes_bridge.auth.signed_urls import Key

_NAME = "wes-bridge-url-keys-1"


class SharedKeys:
    """The keys that secrets make, in place of those of a :class:`~wes_bridge.auth.signed_urls.KeyRing`.

    Args:
        secrets: gives the secrets, the one that signs first. May block.
        rotate: seconds for which one key signs.
        longest: seconds that a URL lives at most.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        secrets: Callable[[], Sequence[bytes]],
        rotate: float,
        longest: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = secrets
        self._rotate = rotate
        self.longest = longest
        self._clock = clock

    def load(self) -> None:
        """See that there is a secret. Blocks.

        Raises:
            OSError: there is none; the text says what to do.
        """
        if not self._secrets():
            raise OSError("there is no key in delegation.key, which signs the URLs of this service")

    def current(self) -> Key:
        """The key that signs now.

        Raises:
            OSError: there is no secret.
        """
        self.load()
        return self._key(self._secrets()[0], int(self._clock() / self._rotate))

    def find(self, name: str) -> Key | None:
        """A key by its name; None where it is not ours, or too old."""
        number, _, _ = name.partition("-")
        if not (number.isascii() and number.isdigit() and len(number) < 20):
            return None
        period, now = int(number), self._clock()
        is_current = (period - 1) * self._rotate <= now < (period + 1) * self._rotate + self.longest
        keys = (self._key(secret, period) for secret in self._secrets()) if is_current else ()
        return next((key for key in keys if key.id == name), None)

    def _key(self, secret: bytes, period: int) -> Key:
        made = hmac.new(secret, f"{_NAME}\0{period}".encode(), hashlib.sha256).hexdigest()
        mark = hashlib.sha256(secret + _NAME.encode()).hexdigest()[:8]
        return Key(id=f"{period}-{mark}", secret=made, made=period * self._rotate)
