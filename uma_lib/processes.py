"""Processes that stay out of each other's way: one writer a folder, commands that end in one line, no orphans.

A run folder may be killed at any moment and goes on when the same command runs again. So a signal ends a command at
once: it says what is kept, and leaves. What a killed process could not clean up, the next writer of the folder does.

The lock is one of POSIX systems (`flock`): the kernel frees it when its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from uma_lib.files import RunError, discard_unfinished, file_error, unfinished

PATIENCE = 5.0  # seconds in which the children of a killed command end, and free what they hold
INTERRUPTED = 128 + signal.SIGINT  # exit code
LAUNCHER = "UMA_LIB_LAUNCHER"  # environment variable of a process that `distributed.launch` has started


# --- one writer a folder ------------------------------------------------------------------------------------------


@contextmanager
def one_writer(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Hold ``folder`` for this process; `RunError` naming the process that holds it already.

    The file ``name`` in it is locked, and says who holds it. Temporary files of killed processes are cleared.
    """
    folder = Path(folder)
    lock = _lock(folder, folder / name)
    unfinished.add(folder / name)
    try:
        clear_temporaries(folder)
        yield
    finally:
        with suppress(OSError):
            (folder / name).unlink()
        unfinished.discard(folder / name)
        os.close(lock)


def _lock(folder: Path, path: Path) -> int:
    """The descriptor of the locked file. Python hands it on to no child, so no child can outlive the lock."""
    until = time.monotonic() + PATIENCE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), os.stat(path)):
                    break
            except FileNotFoundError:  # its last holder has removed it in between
                pass
            except BlockingIOError:
                if time.monotonic() > until:
                    holder = os.read(lock, 500).decode(errors="replace").strip() or "another process"
                    raise RunError(
                        f"{folder} is in use by {holder}; wait for it or end it, or choose another folder"
                    ) from None
                time.sleep(0.05)
            os.close(lock)
        command = " ".join(" ".join(sys.orig_argv).split())[:200]
        holder = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        os.ftruncate(lock, 0)
        os.write(lock, f"{holder} ({command})\n".encode())
    except OSError as error:
        raise file_error(error, path, "write") from error
    return lock


def clear_temporaries(folder: Path, patterns: Iterable[str] = (".*.tmp", "*/.*.tmp", "*/*/.*.tmp")) -> None:
    """Remove temporary files (`files.replacing`) that dead processes have left in ``folder`` and just below."""
    for path in (path for pattern in patterns for path in Path(folder).glob(pattern)):
        pid = re.fullmatch(r"\..+\.([0-9]{1,18})\.tmp", path.name)
        if pid and not _running(int(pid[1])):
            with suppress(OSError):  # another process may clear the same
                path.unlink()


def _running(pid: int) -> bool:
    """Whether another process has this number. What bears this process's own is from one that had it before."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True


# --- commands -----------------------------------------------------------------------------------------------------

_kept: list[Callable[[], str]] = []  # what the running command says when it is interrupted


def end_at_signals(name: str) -> None:
    """From now on Ctrl-C and SIGTERM end this process at once, with one line and exit code 130 or 143.

    For programs, not for a process that goes on to live: nothing is raised, so that no library can catch or lose it,
    and no second signal can disturb the end.
    """
    told = LAUNCHER in os.environ  # the launcher says it for all

    def end(number: int, _frame: object) -> None:
        discard_unfinished()
        if not told:
            text = _kept[-1]() if _kept else "nothing was done yet"
            os.write(2, f"\n{name}: interrupted; {text}\n".encode())  # print may be what was interrupted
        with suppress(RuntimeError, OSError):
            sys.stdout.flush()
        discard_unfinished()  # another thread may have begun a file meanwhile
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as it is for what a script starts in the background
            signal.signal(number, end)


def carry_out(name: str, work: Callable[[], None], kept: Callable[[], str]) -> None:
    """Carry out a command of a program; a `RunError` is one line and exit code 1.

    kept: says what there is after an interruption, and how to go on. In a process that `distributed.launch` has
    started, every error is told to the launcher, which prints it once; and it ends when the launcher does.
    """
    launcher = _launcher()
    _kept.append(kept)
    try:
        work()
    except KeyboardInterrupt:  # of processes that were started, or where signals are left as they were
        print(f"{name}: interrupted; {kept()}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except RunError as error:
        if launcher is None:
            raise SystemExit(f"{name}: {error}") from None
        _last_words(f"{name}: {error}", launcher)
    except Exception:
        if launcher is None:
            raise
        _last_words(traceback.format_exc().rstrip(), launcher)


def _last_words(text: str, launcher: Connection) -> None:
    with suppress(OSError):
        launcher.send(text)
    os._exit(1)


def _launcher() -> Connection | None:
    """The connection to the process that started this one in `distributed.launch`, which this one will not outlive."""
    descriptor = os.environ.pop(LAUNCHER, None)
    if descriptor is None:
        return None
    launcher = Connection(int(descriptor))
    os.set_inheritable(launcher.fileno(), False)

    def watch() -> None:
        with suppress(EOFError, OSError):
            launcher.recv()  # nothing is ever sent: this returns when the launcher is gone
        discard_unfinished()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return launcher
