"""Time that passes when a test says so."""


class Clock:
    """Seconds since the epoch.

    Args:
        now: at first.
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
