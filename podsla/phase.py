"""
EDGE: borrows GPUs for one container of this pod, each time that it runs, for just as long; its program is not changed.

`python3 -m podsla.phase FOLDER --container=infer` runs in a container beside that one, which the annotation
podsla.io/gpu-phase adds, and `podsla-phase` (phase.c) stands in front of that one's command. Both see one folder, which
the other may only read: the pipe `here`, which the other has open while it lives, and by which it says the number of
its run; and `answer`, where this side writes to which number it speaks, and what: "wait", "go" and variables for the
command, "no" or "end" and why.

Whichever side begins anew finds the other as it is: an attachment is named by the number of its run, so it is found
again, and the kernel says whether the run goes on.

It is no command of `podsla`, whose imports take thrice as long: it begins with a small share of a CPU.
"""

import argparse
import asyncio
import contextlib
import functools
import logging
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from podsla.gpu import NOTICE, Borrow, GpuError, InPod, Refused, Revoked, borrow, may_pass, name_of, visible

NUMBER_CHARACTERS: Final = 16
WRITES_AGAIN_S: Final = 1.0
BORROWS_AGAIN_S: Final = 1.0

_log: Final = logging.getLogger("podsla.phase")

Lend = Callable[[str, Callable[[Revoked], object]], Borrow]
"""Borrows for the run of a number, and tells of it where the GPU is taken back."""


async def serve(folder: Path, lend: Lend, grace_s: float) -> None:
    """
    Lend to one run after the other, until SIGTERM; what is lent then is given back first.

    Args:
        folder: Where `podsla-phase put` has made the pipe.
        grace_s: How long the command may go on when its GPU is taken back; the last fifth is not its own.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs is one
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await _Phase(folder, lend, grace_s).serve()


class _Phase:
    """
    Attributes:
        told: The numbers that were said, and "" whenever the pipe was closed.
    """

    def __init__(self, folder: Path, lend: Lend, grace_s: float) -> None:
        self.folder, self.lend, self.grace_s = folder, lend, grace_s
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self.number = ""
        self.run: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        with contextlib.suppress(OSError):  # an earlier process of ours was stopped in the middle of a run
            self.told.put_nowait((self.folder / "answer").read_text()[:NUMBER_CHARACTERS])
        self._listen(first=True)
        try:
            while True:
                number = await self.told.get()
                if number != self.number:
                    await self._end()
                    self.number = number
                    self.run = asyncio.create_task(self._lend(number)) if number else None
                    await asyncio.sleep(0)  # one that is cancelled before it began would give nothing back
        finally:
            await self._end()

    def _listen(self, *, first: bool) -> None:
        """
        Open the pipe, and read it whenever there is something.

        Args:
            first: Look at once whether somebody has it open: of one that closed it before, nothing is told.
        """
        fd = os.open(self.folder / "here", os.O_RDONLY | os.O_NONBLOCK)
        loop = asyncio.get_running_loop()

        def read() -> None:
            try:
                said = os.read(fd, 4096)
            except BlockingIOError:
                return
            for number in said.decode(errors="replace").split():
                self.told.put_nowait(number)
            if not said:  # nobody has it open any more; a pipe that was opened anew waits for the next one
                loop.remove_reader(fd)
                os.close(fd)
                self.told.put_nowait("")
                self._listen(first=False)

        loop.add_reader(fd, read)
        if first:
            read()

    async def _end(self) -> None:
        """Give back what the run had, if it had anything."""
        if self.run is None:
            return
        self.run.cancel()
        await asyncio.wait([self.run])
        _log.info("the container's run %s has ended", self.number)
        (self.folder / "answer").unlink(missing_ok=True)
        self.number, self.run = "", None

    async def _lend(self, number: str) -> None:
        """Lend to one run, until it has ended and this is cancelled."""
        loop, revoked = asyncio.get_running_loop(), asyncio.Queue[Revoked]()

        def on_revoke(why: Revoked) -> None:
            loop.call_soon_threadsafe(revoked.put_nowait, why)

        try:
            await self._answer(number, "wait", "")
            async with await self._borrow(number, on_revoke) as lent:
                variables = visible(lent.uuids).items()
                await self._answer(number, "go", "\n".join(f"{name}={text}" for name, text in variables))
                why = await revoked.get()
                _log.warning("%s", why)
                await asyncio.sleep(NOTICE * self.grace_s)
                await self._answer(number, "end", str(why))
                await loop.create_future()  # the kernel says when it has ended
        except GpuError as error:
            _log.error("%s", error)
            await self._answer(number, "no", str(error))

    async def _borrow(self, number: str, on_revoke: Callable[[Revoked], object]) -> Borrow:
        """Say what to borrow; where it cannot be read just now which pod this is, again and again."""
        while True:
            try:
                return self.lend(number, on_revoke)
            except Refused as error:
                if not may_pass(error):
                    raise
                _log.warning("cannot ask for a GPU yet: %s", error)
            await asyncio.sleep(BORROWS_AGAIN_S)

    async def _answer(self, number: str, word: str, rest: str) -> None:
        """Write the answer, whole or not at all; where there is no room for it, again and again."""
        _log.info("the container's run %s: %s", number, word)
        part = self.folder / ".answer"
        while True:
            try:
                part.write_text(f"{number}\n{word}\n{rest}")
                part.chmod(0o644)
                part.rename(self.folder / "answer")
            except OSError as error:
                _log.error("cannot write the answer: %s", error)
                await asyncio.sleep(WRITES_AGAIN_S)
            else:
                return


def _lend(spec: dict[str, Any], number: str, on_revoke: Callable[[Revoked], object]) -> Borrow:
    """Ask for as long as the pod may wait: one that waits too long is ended by its activeDeadlineSeconds."""
    api = InPod()
    pod = api.pod()
    name = name_of(pod.name, number[:8])
    return borrow(**spec, timeout=math.inf, name=name, on_revoke=on_revoke, api=api, pod=pod)


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(prog="python3 -m podsla.phase", description="Borrow GPUs for a container's runs.")
    parser.add_argument("folder", type=Path, help="where podsla-phase was put")
    parser.add_argument("--container", required=True, help="of this pod: which one is the phase")
    parser.add_argument("--resource", default="nvidia.com/gpu", help="which GPUs; default: %(default)s")
    parser.add_argument("--count", type=int, default=1, help="how many; default: %(default)s")
    parser.add_argument("--model", action="append", default=[], dest="models", help="any of these; repeat it")
    parser.add_argument("--lease", type=int, default=300, help="seconds that it is held when this is gone")
    parser.add_argument("--grace", type=int, default=30, help="seconds that the command has when it is taken back")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    spec = {key: value for key, value in vars(asked).items() if key != "folder"}
    asyncio.run(serve(asked.folder, functools.partial(_lend, spec), float(asked.grace)))


if __name__ == "__main__":
    main()
