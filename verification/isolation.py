"""A subject in a process of its own: it may hang, abort or leak, and the run goes on.

The worker is started with the interpreter and the import path of the caller. It is sent one
check at a time and answers with results; where nothing comes back within the time limit it is
killed, and where it ends, its end is the finding. Either way the next check has a new worker.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from typing import IO, Any

from verification.names import TIME_LIMIT
from verification.results import FAILED, Finding, Result

# After so many hangs and crashes a subject is given up: each costs the limit, or a new process.
PATIENCE = 3


class Worker:
    """A process that runs checks of one subject: of what `subjects.load` makes of a tuple."""

    def __init__(self, subject: tuple[str, str, str, str]) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from verification.isolation import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self._messages: queue.Queue[Any] = queue.Queue()
        self._errors: list[bytes] = []
        for target in (self._listen, self._listen_to_errors):
            threading.Thread(target=target, daemon=True).start()
        self._send(subject)

    def _listen(self) -> None:
        assert self._process.stdout
        while (message := _receive(self._process.stdout)) is not None:
            self._messages.put(message)
        self._messages.put(None)

    def _listen_to_errors(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self._errors = [*self._errors[-20:], line]

    def _send(self, message: Any) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it has ended: its last words are found on reading
            _transmit(self._process.stdin, message)

    def ask(self, request: Any, progress: Callable[[float], None], limit: float) -> Any:
        """The worker's answer to a request.

        Raises
        ------
        TimeoutError
            Where no sign of life came within ``limit`` seconds.
        EOFError
            Where the process ended instead, with its last words.
        """
        if request is not None:
            self._send(request)
        while True:
            try:
                message = self._messages.get(timeout=limit)
            except queue.Empty:
                raise TimeoutError(f"nothing came back within {limit:g} s") from None
            if message is None:
                raise EOFError(self._last_words())
            kind, content = message
            if kind == "progress":
                progress(content)
            else:
                return content

    def _last_words(self) -> str:
        status = self._process.wait()
        said = [line.decode(errors="replace").strip() for line in self._errors]
        said = [line for line in said if line]
        words = f"; its last words: {said[-1]}" if said else ""
        ended = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"the process ended with {ended}{words}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                with contextlib.suppress(OSError):  # what was not sent yet
                    pipe.close()


def _transmit(pipe: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message)
    pipe.write(struct.pack("<Q", len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    head = pipe.read(8)
    if len(head) < 8:
        return None
    return pickle.loads(pipe.read(struct.unpack("<Q", head)[0]))


class Runner:
    """Checks of one subject, one worker after the other."""

    def __init__(self, subject: tuple[str, str, str, str], limit: float = TIME_LIMIT) -> None:
        self._subject = subject
        self._limit = limit
        self._worker: Worker | None = None
        self._failures = 0

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def describe(self) -> dict[str, Any]:
        """What the subject is: its version, functions, dtypes and convention.

        Or ``missing``, why it is not there.
        """
        try:
            return dict(self._ask(None))
        except (TimeoutError, EOFError) as error:
            self.close()
            return {"missing": str(error)}

    def run(self, request: dict[str, Any], progress: Callable[[float], None]) -> list[Result]:
        """The results of one check; a hang or a crash is one of them."""
        if self._failures >= PATIENCE:
            finding = Finding("given up", f"not run, after {PATIENCE} crashes and hangs")
            return [_failed(request, finding)]
        try:
            if self._worker is None:
                self._ask(None)
            results: list[Result] = self._ask(request, progress)
            return results
        except TimeoutError as error:
            finding = Finding("timed out", str(error))
        except EOFError as error:
            finding = Finding("crashed", str(error))
        self._failures += 1
        self.close()
        return [_failed(request, finding)]

    def _ask(self, request: Any, progress: Callable[[float], None] = lambda share: None) -> Any:
        if self._worker is None:
            self._worker = Worker(self._subject)
        return self._worker.ask(request, progress, self._limit)

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def serve() -> None:
    """The worker's side: describe the subject, then answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    requests = os.fdopen(os.dup(0), "rb")
    # What a subject prints, or reads, does not get into the conversation.
    os.dup2(2, 1)
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)

    from verification import suites
    from verification.subjects import Missing, load

    try:
        subject = load(*_receive(requests))
    except Missing as missing:
        _transmit(answers, ("answer", {"missing": str(missing)}))
        return
    description = {
        "version": subject.version,
        "functions": tuple(subject.functions),
        "dtypes": subject.dtypes,
        "convention": subject.convention,
    }
    _transmit(answers, ("answer", description))
    while (request := _receive(requests)) is not None:
        try:
            results = suites.run(
                subject, request, lambda share: _transmit(answers, ("progress", share))
            )
        except Exception as error:
            # A subject's exceptions are findings already: this is a fault of the verification,
            # and said to be one.
            at = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__}: {error} ({os.path.basename(at.filename)}:{at.lineno})"
            finding = Finding("faulty", f"the verification itself failed: {words}")
            results = [_failed(request, finding)]
        _transmit(answers, ("answer", results))


def _failed(request: dict[str, Any], finding: Finding) -> Result:
    """The result of a check that gave none itself."""
    about = {key: request[key] for key in ("suite", "case", "dtype")}
    function = "+".join(request["functions"])
    return Result(**about, function=function, status=FAILED, finding=finding)
