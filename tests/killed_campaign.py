"""`bacmac ARGUMENTS...`, killed with SIGKILL at one moment: a program that tests start.

    python killed_campaign.py MODULE CLASS METHOD N (before|after) ARGUMENTS...

The N-th call of CLASS.METHOD is the moment: before it begins, or after it has returned.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module


def die_at(owner: type, method: str, n: int, when: str) -> None:
    """Let the n-th call of a method be the last thing that this process does."""
    original, calls = getattr(owner, method), [0]

    def watched(*arguments: object, **named: object) -> object:
        calls[0] += 1
        if calls[0] == n and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        returned = original(*arguments, **named)
        if calls[0] == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return returned

    setattr(owner, method, watched)


if __name__ == "__main__":
    module, name, method, n, when, *arguments = sys.argv[1:]
    die_at(getattr(import_module(module), name), method, int(n), when)
    from bacmac.cli.main import main

    main(arguments)
