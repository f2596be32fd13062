"""``local``: where most of the input is already."""

from __future__ import annotations

from collections.abc import Sequence

from wes_bridge.federation.figures import Figures
from wes_bridge.federation.policies.base import Key
from wes_bridge.model.preferences import Wish


class Local:
    """Fewest bytes to bring, then fewest inputs of unknown size to bring."""

    def title(self, _wish: Wish) -> str:
        """See :class:`~wes_bridge.federation.policies.base.Policy`."""
        return "nearest to its data"

    def keys(self, offers: Sequence[Figures], _wish: Wish) -> list[Key]:
        """Bytes, then inputs whose size nobody knows."""
        return [(float(offer.moved), float(offer.moved_unknown)) for offer in offers]

    def words(self, offer: Figures, _wish: Wish) -> str:
        """What has to be brought."""
        said = [f"{_size(offer.moved)} to bring"] if offer.moved or not offer.moved_unknown else []
        said += [f"{offer.moved_unknown} of unknown size to bring"] if offer.moved_unknown else []
        return ", ".join(said)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
