"""Where files with names of their own go, so that each keeps its name: two of one name get folders apart.

The name of an output is part of a run's result, and so are the names of its secondary files; its folder is
not. The first file of a name goes into the folder itself, others of that name into ``2``, ``3`` and so on
below it, each with its secondary files beside it. This module knows names only; it touches no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Named = tuple[str, str]
"""A name, and what tells the file that has it from all others."""


class NameConflictError(ValueError):
    """Two files that belong together have one name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"two different files that belong together are called {name!r}")
        self.name = name


class OutputPlaces:
    """The places in one folder. The cost of a placement does not grow with the number of equal names.

    Args:
        names: all names that will be asked for, so that no folder takes one of them.
        is_free: whether a folder of this name can be made; asked once for each.
        same: names that become equal by it cannot be in one folder (``str.casefold`` where the file system
            does not tell ``a`` from ``A``).
    """

    def __init__(
        self,
        names: Iterable[str],
        is_free: Callable[[str], bool] = lambda _name: True,
        same: Callable[[str], str] = lambda name: name,
    ) -> None:
        self._same = same
        self._reserved = {same(name) for name in names}
        self._is_free = is_free
        self._folders = [""]
        self._number = 1
        self._holders: dict[tuple[int, str], Named] = {}
        self._first: dict[Named, int] = {}
        self._next: dict[str, int] = {}

    def place(self, group: Sequence[Named]) -> str:
        """The folder, relative and empty for the folder itself, for a file and its secondary files.

        A file that has been placed before under the same name shares that place where all of its group can.

        Raises:
            NameConflictError: two of the group have one name.
        """
        self._check(group)
        known = self._first.get(group[0])
        index = known if known is not None and self._fits(known, group) else self._new(group)
        for name, what in group:
            name_here = self._same(name)
            self._holders[index, name_here] = (name, what)
            self._first.setdefault((name, what), index)
            self._next[name_here] = max(self._next.get(name_here, 0), index + 1)
        return self._folders[index]

    def _check(self, group: Sequence[Named]) -> None:
        seen: dict[str, Named] = {}
        for item in group:
            if seen.setdefault(self._same(item[0]), item) != item:
                raise NameConflictError(item[0])

    def _fits(self, index: int, group: Sequence[Named]) -> bool:
        return all(self._holders.get((index, self._same(item[0])), item) == item for item in group)

    def _new(self, group: Sequence[Named]) -> int:
        """The first folder behind all that hold one of the names: no folder is looked at twice for a name."""
        index = max(self._next.get(self._same(name), 0) for name, _ in group)
        while index >= len(self._folders):
            self._folders.append(self._new_folder())
        return index

    def _new_folder(self) -> str:
        self._number += 1
        name = str(self._number)
        while self._same(name) in self._reserved or not self._is_free(name):
            name += "_"
        return name
