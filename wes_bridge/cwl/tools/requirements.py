"""What a tool's document asks for whatever its inputs are: the same for a step and for a sketch of one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cwltool.errors import UnsupportedRequirement
from cwltool.process import HasReqsHints

from wes_bridge.model.containers import Containers

_MADE_OF = {
    "dockerFile": "Images are not built from text in workflows, since that would run anything as the node's"
    " container engine",
    "dockerLoad": "Image archives are not loaded, since an archive names the images that it replaces at the"
    " node, for everybody",
    "dockerImport": "Images are not imported, since that would name them at the node for everybody",
}
"""Ways of getting an image that are not offered, and why."""
_INSTEAD = "put the image into a registry and name it with dockerPull"


@dataclass(frozen=True)
class ImageChoice:
    """A tool's container image.

    Attributes:
        image: its name; None for a plain process.
        required: whether a plain process will not do.
        is_there: whether it is named by what nodes call it (``dockerImageId``), with nothing to pull.
        left_out: the image that the tool hints at and that is not used, because containers are not.
    """

    image: str | None = None
    required: bool = False
    is_there: bool = False
    left_out: str | None = None


def image_of(tool: HasReqsHints, containers: Containers) -> ImageChoice:
    """The container image that a tool runs in.

    Args:
        tool: knows its requirements and hints.
        containers: as site and run say.

    Raises:
        UnsupportedRequirement: the image would have to be built or loaded; or the tool requires one, and
            containers are not used.
    """
    requirement, required = tool.get_requirement("DockerRequirement")
    if requirement is None:
        return ImageChoice()
    pulled = requirement.get("dockerPull")
    made_of = None if pulled else next((way for way in _MADE_OF if requirement.get(way)), None)
    image = pulled or requirement.get("dockerImageId")
    if containers == "never":
        if required:
            raise UnsupportedRequirement(
                f"DockerRequirement is among the tool's requirements (image {image or 'of ' + str(made_of)}),"
                " but containers are not used here: 'containers' is 'never', as the run or its site says"
            )
        return ImageChoice(left_out=image or made_of)
    if made_of is not None:
        why = _MADE_OF[made_of]
        raise UnsupportedRequirement(f"DockerRequirement with {made_of}. {why}; {_INSTEAD}{_hint(required)}")
    if image is None:
        if required:
            raise UnsupportedRequirement(f"DockerRequirement names no image: {_INSTEAD}")
        return ImageChoice()
    return ImageChoice(image, bool(required) or containers == "required", is_there=not pulled)


def _hint(required: bool | None) -> str:
    """What else helps where the image is only a hint."""
    return "" if required else ", or run without containers (containers: never), since it is only a hint"


def success_codes(good: Iterable[int], temporary: Iterable[int], permanent: Iterable[int]) -> list[int]:
    """Exit codes that are no failure, by CommandLineTool's ``successCodes`` and its two siblings."""
    return sorted({0, *good} - {*temporary, *permanent})
