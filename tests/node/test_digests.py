"""Digests that no image can have are a NO at once: nothing is looked up or pulled for them."""

import asyncio

import pytest

from wes_bridge.model.execution_broker import Image, Message
from wes_bridge.node.platforms.images import Images


def reasons(digest: str | None) -> list[Message]:
    """What a node says that has an engine which knows no images, and may pull."""
    images = Images("false", pull=True, names={})
    return asyncio.run(images.check(Image(locations=["registry.example.org/a:1"], digest=digest)))


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:zz",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "sha512:" + "a" * 64,
        "latest",
        "a b",
        "sha256",
    ],
)
def test_what_cannot_be_a_digest_is_a_no(digest: str) -> None:
    (reason,) = reasons(digest)
    assert (reason.kind, reason.level) == ("urn:invalid-value", "ERROR")
    assert f"executable.image.digest: {digest} is no digest" in reason.text()
    assert "sha256: and 64 hexadecimal digits" in reason.text()


@pytest.mark.parametrize(
    "digest", [None, "", "sha256:", "sha256:" + "0a" * 32, "sha512:" + "0a" * 64, "0a" * 32, "0a" * 6]
)
def test_what_can_be_one_is_looked_for(digest: str | None) -> None:
    assert reasons(digest) == []
