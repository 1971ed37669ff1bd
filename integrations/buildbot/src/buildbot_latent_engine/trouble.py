"""Why an instance did not start, or ended: the engine's verdict, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from .client import Json, diagnostics_text

#: Classes of failures that a build's own properties can cause: another build may well start on the same worker.
BUILDS_FAULT = frozenset({"config", "image", "policy"})


@dataclass(frozen=True)
class Trouble:
    """A failure: its class of the engine's closed list, whether trying again can help, and all that was said of it."""

    kind: str
    retryable: bool
    text: str

    @property
    def is_builds_fault(self) -> bool:
        """Tell whether the build that asked for the instance caused it, and not the worker."""
        return not self.retryable and self.kind in BUILDS_FAULT


def of_failure(failure: Any, violations: Any = None) -> Trouble:
    """Read the engine's failure: class, message, reason, hint, the log's last lines, policy's reasons."""
    if not isinstance(failure, dict):
        return Trouble("unknown", True, "latent-engine reported a failure without saying which")
    kind = str(failure.get("class") or "unknown")
    lines = [f"failed ({kind}): {failure.get('message') or 'no reason was given'}"]
    for v in violations if isinstance(violations, list) else ():
        if isinstance(v, dict):
            lines += ["  " + line for line in diagnostics_text([{**v, "path": v.get("path") or v.get("field")}])]
    lines += [f"  {key}: {failure[key]}" for key in ("image", "container", "reason", "field") if failure.get(key)]
    log = failure.get("log")
    if isinstance(log, list) and log:
        lines += ["  last log lines:", *(f"  | {line}" for line in log)]
    lines += ["  hint: " + line for line in str(failure.get("hint") or "").splitlines()]
    return Trouble(kind, failure.get("retryable") is not False, "\n".join(lines))


def of_exit(status: Any) -> Trouble:
    """Say how an instance ended by itself."""
    status = status if isinstance(status, dict) else {}
    if status.get("failure"):
        return of_failure(status["failure"])
    code = status.get("exit_code")
    how = "is gone" if code is None else f"ended by itself with exit code {code}"
    return Trouble("crashed", True, f"the worker {how}")


def of_call(code: Optional[int], how: str, diagnostics: Sequence[Json]) -> Trouble:
    """Read the end of a call that reported no failure: a definition or a build that cannot be rendered, or a defect."""
    text = "\n".join(diagnostics_text(diagnostics))
    if text and code is not None:
        return Trouble("config", False, f"failed (config): {text}")
    return Trouble(
        "unknown",
        True,
        f"latent-engine ended with {how} before it said what became of the start" + (f"\n{text}" if text else ""),
    )
