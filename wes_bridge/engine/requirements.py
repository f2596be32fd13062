"""What a tool's document asks for whatever its inputs are: the same for a step and for a sketch of one."""

from __future__ import annotations

from collections.abc import Iterable

from cwltool.errors import UnsupportedRequirement
from cwltool.process import HasReqsHints


def image_of(tool: HasReqsHints) -> tuple[str | None, bool]:
    """The container image, None for none, and whether the tool must have it.

    Raises:
        UnsupportedRequirement: it would have to be built or loaded.
    """
    requirement, required = tool.get_requirement("DockerRequirement")
    if requirement is None:
        return None, False
    image = requirement.get("dockerImageId") or requirement.get("dockerPull")
    if image is None and required:
        raise UnsupportedRequirement(
            "DockerRequirement without dockerPull or dockerImageId: images are not built or loaded here"
        )
    return image, bool(required and image)


def success_codes(good: Iterable[int], temporary: Iterable[int], permanent: Iterable[int]) -> list[int]:
    """Exit codes that are no failure, by CommandLineTool's ``successCodes`` and its two siblings."""
    return sorted({0, *good} - {*temporary, *permanent})
