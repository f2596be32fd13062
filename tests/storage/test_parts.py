"""How uploads are cut: whatever the size, stores take it, and it fits into memory."""

from __future__ import annotations

import gzip
import json

import pytest

from wes_bridge.storage.obstores import part_size

MIB, GIB = 1024**2, 1024**3
XATTR = 4096 - 300
"""Bytes that ext4 has for all attributes of a file, less what versitygw notes beside its parts."""


@pytest.mark.parametrize("size", [1, 8 * MIB, GIB, 10 * GIB, 140 * GIB, 1024 * GIB, 5 * 1024 * GIB])
def test_parts_are_few_and_small(size: int) -> None:
    part, at_once = part_size(size)
    assert part % MIB == 0
    assert 5 * MIB <= part <= 5 * GIB  # as S3 wants them
    assert -(-size // part) <= 10_000
    assert part * at_once <= max(32 * MIB, part)
    assert size > 140 * GIB or part <= 16 * MIB


def test_ten_gib_fit_into_the_notes_of_a_gateway() -> None:
    """versitygw on ext4 has a few kB for a list of where parts end."""
    part, _ = part_size(10 * GIB)
    ends = list(range(part, 10 * GIB + 1, part))
    assert len(gzip.compress(json.dumps({"UploadID": "0" * 36, "Parts": ends}).encode())) < XATTR
