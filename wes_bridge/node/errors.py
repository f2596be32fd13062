"""What can go wrong in a node, as types. Each carries the message a client will read."""

from __future__ import annotations

from wes_bridge.model.execution_broker import Message
from wes_bridge.node import messages
from wes_bridge.surface.errors import BadRequestError

__all__ = [
    "BadRequestError",
    "CommandNotFoundError",
    "CommandNotShownError",
    "NodeError",
    "NotBegunError",
    "PlatformError",
    "ReleaseError",
    "StagingError",
]


class NodeError(Exception):
    """Base of the errors that end a session; ``message`` is what the client is told."""

    def __init__(self, message: Message) -> None:
        super().__init__(message.text())
        self.message = message


class StagingError(NodeError):
    """An input could not be brought to the session."""

    def __init__(self, location: str, path: str, reason: str) -> None:
        super().__init__(
            messages.message(
                messages.STAGING,
                "cannot stage {location} to {path}: {reason}",
                location=location[:500],
                path=path,
                reason=reason,
            )
        )


class ReleaseError(NodeError):
    """An output could not be brought to where it was asked for.

    Attributes:
        by_command: whether that is the fault of the command, and it would fail so everywhere.
    """

    def __init__(self, path: str, location: str, reason: str, *, by_command: bool = False) -> None:
        self.by_command = by_command
        super().__init__(
            messages.message(
                messages.UNUSABLE if by_command else messages.RELEASING,
                "cannot transfer {path} to {location}: {reason}",
                path=path,
                location=location,
                reason=reason,
            )
        )


class PlatformError(NodeError):
    """The platform could not run the command, or lost it."""

    def __init__(self, reason: str, kind: str = messages.PLATFORM) -> None:
        super().__init__(messages.message(kind, "{reason}", reason=reason))


class NotBegunError(PlatformError):
    """What is around the command failed, and the command itself was not begun: it may be elsewhere."""


class CommandNotFoundError(NodeError):
    """The command does not exist (exit code 127) or may not be executed (126), as a shell would say."""

    def __init__(self, command: str, exit_code: int) -> None:
        template = "command not executable: {command}"
        if exit_code == 127:
            template = "command not found: {command} (not installed here? a container image brings its own)"
            if "/" in command and not command.startswith("/"):
                template = (
                    "command not found: {command} is not in the step's working directory (make it a File"
                    " input, or stage it by InitialWorkDirRequirement)"
                )
        super().__init__(messages.message(messages.COMMAND_NOT_FOUND, template, command=command))
        self.exit_code = exit_code


class CommandNotShownError(CommandNotFoundError):
    """The command is on the machine, but the sandbox does not show it."""

    def __init__(self, command: str, advice: str, runs: str | None = None) -> None:
        super().__init__(command, 127)
        template = "command not shown: {command} is on this machine, but steps cannot see it; {advice}"
        if runs is not None:
            template = (
                "command not shown: {command}, which runs {runs}, is on this machine, but steps cannot see"
                " it; {advice}"
            )
        self.message = messages.message(
            messages.COMMAND_NOT_FOUND, template, command=command, advice=advice, runs=runs
        )
