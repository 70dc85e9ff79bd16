"""The command ``jammi-files``: arguments in, one document or table out, an exit code.

What a command found goes to standard output, everything else to standard error, each on one line
that begins ``jammi-files: ``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from jammi_files import terminal
from jammi_files.cli_answer import Answer, Event, Feed
from jammi_files.cli_commands import COMMANDS
from jammi_files.cli_parser import ROOT_VARIABLE, make_parser
from jammi_files.errors import InvalidInputError, JammiFilesError

USAGE, ERROR, INTERRUPTED, BROKEN_PIPE = 2, 3, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing but a bug ends in a traceback."""
    with _warnings_on_stderr():
        try:
            return _run(argv)
        except KeyboardInterrupt:
            _complain("interrupted")
            return INTERRUPTED
        except InvalidInputError as error:
            _complain(str(error))
            return USAGE
        except JammiFilesError as error:
            _complain(str(error))
        except OSError as error:
            _complain(_worded(error))
    return ERROR


def _run(argv: Sequence[str] | None) -> int:
    printed = io.StringIO()  # argparse itself hides that its output was lost
    try:
        with contextlib.redirect_stdout(printed):
            args = make_parser().parse_args(argv)
    except SystemExit as done:  # --help and --version
        lines = printed.getvalue().splitlines()
        return _output(lambda stream: terminal.write(lines, stream)) or int(done.code or 0)
    if not getattr(args, "root", "named otherwise") and not getattr(args, "files", None):
        raise InvalidInputError(f"which catalog? give --root ROOT or set {ROOT_VARIABLE}")
    answer = COMMANDS[args.command](args)
    if isinstance(answer, Feed):
        return _follow(answer, as_json=args.json)
    return _output(lambda stream: _print(answer, stream, as_json=args.json)) or answer.code


def _follow(feed: Feed, *, as_json: bool) -> int:
    """Print what happens as it happens; an interrupt is how it ends."""
    with contextlib.suppress(KeyboardInterrupt):
        for event in feed.events:
            code = _output(functools.partial(_print_event, event, as_json=as_json))
            if code:
                return code
    return 0


def _print_event(event: Event, stream: TextIO, *, as_json: bool) -> None:
    if not as_json:
        terminal.write(event.view, stream)
    elif event.document is not None:
        terminal.write_json_line(event.document, stream)


def _print(answer: Answer, stream: TextIO, *, as_json: bool) -> None:
    if as_json:
        terminal.write_json(answer.document, stream)
    else:
        terminal.write(answer.view, stream)


def _output(action: Callable[[TextIO], None]) -> int:
    """Write to standard output; a reader that went away is no error, a full disk is."""
    stream = sys.stdout
    try:
        if stream is None:
            raise OSError(errno.EBADF, "it is closed")
        action(stream)
    except OSError as error:
        _discard(stream)
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        _complain(f"cannot write to standard output: {error.strerror or error}")
        return ERROR
    return 0


def _discard(stream: TextIO | None) -> None:
    """Send what is still buffered nowhere, else Python complains about it at its end."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), stream.fileno())


def _complain(message: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"jammi-files: {terminal.printable(message)}\n")
            sys.stderr.flush()


def _worded(error: OSError) -> str:
    if error.strerror is None:
        return str(error) or type(error).__name__
    return error.strerror if error.filename is None else f"'{error.filename}': {error.strerror}"


class _Complaints(logging.Handler):
    """Says what the library warns of, escaped: a message may quote a name from the catalog."""

    def emit(self, record: logging.LogRecord) -> None:
        _complain(f"warning: {record.getMessage()}")


@contextlib.contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    handler, logger = _Complaints(logging.WARNING), logging.getLogger("jammi_files")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
