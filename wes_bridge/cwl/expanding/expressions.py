"""CWL expressions where only part of the inputs is known: evaluated when they do not look at the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cwl_utils.expression import do_eval

from wes_bridge.cwl.expanding.unknown import Unknown, is_known, sources_of, without_unknown

_NAMED = re.compile(r"""\binputs(?:\.([A-Za-z_]\w*)|\[\s*(?:"([^"]*)"|'([^']*)')\s*\])""")
_INPUTS = re.compile(r"\binputs\b")
_SELF = re.compile(r"\bself\b")


class Expressions:
    """Evaluates expressions.

    Args:
        timeout: seconds one may take.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    def value(
        self, text: Any, inputs: Mapping[str, Any], requirements: list[Any], self_value: Any = None
    ) -> Any:
        """An expression's value; an :class:`Unknown` when it depends on one.

        Args:
            text: as written; what is no expression is its own value.
            inputs: by short name.
            requirements: that hold where it stands.
            self_value: its ``self``.

        Raises:
            WorkflowException: it fails.
        """
        if not is_expression(text):
            return text
        read = [inputs[name] for name in _reads(text, inputs)]
        if _SELF.search(text):
            read.append(self_value)
        if not all(is_known(value) for value in read):
            return Unknown(frozenset().union(*map(sources_of, read)))
        return do_eval(
            text,
            without_unknown(dict(inputs)),
            requirements,
            None,
            None,
            {},
            context=without_unknown(self_value),
            timeout=self._timeout,
        )


def is_expression(text: Any) -> bool:
    """Whether it is to be evaluated."""
    return isinstance(text, str) and ("$(" in text or "${" in text)


def _reads(text: str, inputs: Mapping[str, Any]) -> list[str]:
    """Names of the inputs an expression looks at; all of them when that cannot be told."""
    named = [first or second or third for first, second, third in _NAMED.findall(text)]
    if len(named) != len(_INPUTS.findall(text)):
        return list(inputs)
    return [name for name in dict.fromkeys(named) if name in inputs]
