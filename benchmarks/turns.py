"""Processes that are measured in turn, a moment each. A machine that is not alone has fast and slow times, of a second
or of a minute; measured one after the other, one process may see the fast ones and the next the slow ones."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .measure import SECONDS

TURN = 0.1
"""Seconds, or one sample."""

PAUSE = 0.005
"""Seconds in which the threads of the last one's libraries fall asleep."""

END = "end"
"""The line that asks for the result."""

_MARK = "answer: "


def answer(found: dict[str, Any]) -> None:
    """Tell the process that asks."""
    print(_MARK + json.dumps(found), flush=True)


def serve(take: Callable[[float], object]) -> None:
    """Take samples for as many seconds as `take_turns` of the process that asks says, until it asks for the result."""
    answer({})
    for line in sys.stdin:
        if line.strip() == END:
            return
        take(float(line))
        answer({})


class Peer:
    """A process that is asked by lines of text and answers by `answer`; what else it prints is passed over."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], timeout: float) -> None:
        self.timeout = timeout
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)

    def ask(self, line: object) -> dict[str, Any]:
        """The answer to a line; {"unavailable": why} where there is none."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `hear` says how it has ended
            print(line, file=self.process.stdin, flush=True)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """The next answer."""
        watch = threading.Timer(self.timeout, self.process.kill)
        start = time.monotonic()
        watch.start()
        try:
            for line in self.process.stdout or ():
                if line.startswith(_MARK):
                    return json.loads(line.removeprefix(_MARK))
            code = self.process.wait()
        finally:
            watch.cancel()
        if time.monotonic() - start >= self.timeout:
            return {"unavailable": f"still running after {self.timeout:.0f} s"}
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or [""])[-1]
        return {"unavailable": f"exit code {code}: {last[:300]}"}

    def end(self) -> None:
        """Let the process go."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # of a line that it did not live to read
            self.process.stdin.close()
        try:
            self.process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


def take_turns(peers: Sequence[Peer], seconds: float = SECONDS) -> None:
    """Let each take samples, for so many seconds together."""
    for _ in range(max(1, round(seconds / TURN))):
        for peer in peers:
            peer.ask(TURN)
            time.sleep(PAUSE)
