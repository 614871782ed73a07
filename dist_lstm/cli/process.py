"""The process of a command: its arguments, its standard streams and its signals."""

import os
import sys
from typing import Any

import typer

from dist_lstm.credentials import refuse_keys
from dist_lstm.errors import UserError

#: Exit statuses of SIGINT (typer's for a KeyboardInterrupt), SIGPIPE and SIGTERM (128 + number, as in a shell).
INTERRUPTED, BROKEN_PIPE, PRE_EMPTED = 130, 141, 143


def open_closed_streams() -> None:
    """Connect closed standard streams to nothing: the next file that is opened would get their descriptors."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest descriptor that is free
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w", closefd=False))


def check_arguments(arguments: list[str]) -> None:
    """Refuse what can't be written to files and messages.

    Args:
        arguments: The words of a command line.

    Raises:
        UserError: If one is not UTF-8, or holds a URI with a password or a secret key.
    """
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            name = os.fsencode(argument).decode(errors="backslashreplace")
            raise UserError(name, "is not UTF-8", "rename the file or folder") from None
        refuse_keys("the command line", argument)


def pre_empted(*_: Any) -> None:
    """Handle SIGTERM: the work is saved on the way out."""
    raise SystemExit(PRE_EMPTED)


def ended_by_a_closed_pipe(end: SystemExit) -> bool:
    """Whether typer or Rich end the process since nobody reads its output any more; both give status 1."""
    return isinstance(end.__context__, BrokenPipeError)


def discard_output() -> None:
    """Connect standard output to nothing: Python would write what is left at the end, and fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def one_line(message: str) -> str:
    """A message as one printable line; text from a damaged file may contain control codes."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(message.split()))


def print_error(message: str) -> None:
    """Write an error to standard error, in one line."""
    say(f"error: {one_line(message)}")


def say(line: str) -> None:
    """Write a line to standard error; nothing happens where it can't be written."""
    try:
        typer.echo(line, err=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
