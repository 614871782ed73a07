"""CSV files to raw pieces of text, block by block, whatever program wrote them.

Blanks around headings and values are not part of them; `rows` converts the text.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from dist_lstm.config.table import DELIMITERS, CsvSettings
from dist_lstm.data.columns import Choose, Columns, Piece, dates_among
from dist_lstm.errors import UserError

_MIB = 1 << 20
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
#: What spreadsheets write into the first line to name the delimiter.
_SEP = re.compile(rb'"?sep=(.)"?', re.IGNORECASE | re.DOTALL)
_COMMENTS = "#%!*/"
_QUOTED = r'^\s+"(.*)"\s*$'


@dataclass(frozen=True)
class _Form:
    """How one file is written.

    Attributes:
        delimiter: The character between its fields.
        encoding: The encoding of its text.
        skipped: Lines before the heading that are not read.
        heading: The line of the heading, in UTF-8.
    """

    delimiter: str
    encoding: str
    skipped: int
    heading: bytes


def csv_pieces(open_file: Callable[[], Any], where: str, settings: CsvSettings, choose: Choose) -> Iterator[Piece]:
    """Read the columns of a CSV file as text.

    Args:
        open_file: Opens the file as a stream of decompressed bytes.
        where: The file, for errors.
        settings: How it is written.
        choose: Chooses the columns by the names in the heading.

    Yields:
        The columns by their role, and some rows of those that are in the file; null is an empty field.

    Raises:
        UserError: If it can't be read, or has not the columns.
    """
    form = _recognise(open_file, where, settings)
    try:
        yield from _read(open_file, form, settings, choose)
    except (pa.ArrowException, UnicodeError) as error:
        reason = str(error).splitlines()[0]
        line = r"line \1: e" if settings.comment is None else r"line \1, comments not counted: e"
        shown = re.sub(r"^CSV parse error: Row #(\d+): E", line, reason)
        raise UserError(where, f"can't be read as csv: {shown}", _advice(reason, form, settings)) from error


def _read(open_file: Callable[[], Any], form: _Form, settings: CsvSettings, choose: Choose) -> Iterator[Piece]:
    def open_csv(**convert: Any) -> Any:
        return pa_csv.open_csv(
            _utf8(open_file(), form.encoding, settings.comment),
            # Without threads errors name the line; a block must hold complete rows, and more than a few.
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=max(_MIB, 64 * len(form.heading)), skip_rows=form.skipped
            ),
            parse_options=pa_csv.ParseOptions(delimiter=form.delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(**convert),
        )

    with open_csv() as head:
        written = head.schema.names
    present = [re.sub(_QUOTED, r"\1", name).strip() for name in written]
    columns = _choose(choose, present)
    included = columns.inside(present)
    names = dict(zip(present, written, strict=True))
    text = {names[name]: pa.string() for name in included}
    # A series may have the name NA; only in columns of numbers it means a missing value.
    options = {"strings_can_be_null": True, "null_values": [""]}
    with open_csv(include_columns=list(text), column_types=text, **options) as stream:
        for batch in stream:
            yield columns, pa.table([_without_blanks(column) for column in batch.columns], included)


def _recognise(open_file: Callable[[], Any], where: str, settings: CsvSettings) -> _Form:
    """How a file is written, by its first lines and the settings."""
    with open_file() as stream:
        start = stream.read(2)
    encoding = settings.encoding or ("utf-16" if start in _UTF16_MARKS else "utf8")
    try:
        with _utf8(open_file(), encoding, settings.comment) as stream:
            lines = _first_lines(stream, settings.skip_lines)
    except UnicodeError as error:
        raise UserError(where, f"can't be read as csv: {error}", _encoding_advice(settings)) from error
    named = _SEP.fullmatch(lines[0]) if lines else None
    heading = next((line for line in (lines[1:] if named else lines) if line), b"")
    if b"\0" in heading:
        raise UserError(
            where,
            "can't be read as csv: its first line contains NUL bytes",
            "if it is text, set data.csv.encoding to its encoding, such as utf-16-le",
        )
    unquoted = re.sub(rb'"[^"]*"', b"", heading)
    delimiter = max(",;\t|", key=lambda one: unquoted.count(one.encode()))
    delimiter = named[1].decode("latin-1") if named else delimiter
    delimiter = delimiter if settings.delimiter is None else DELIMITERS[settings.delimiter]
    return _Form(delimiter, encoding, settings.skip_lines + (named is not None), heading)


def _first_lines(stream: Any, skipped: int) -> list[bytes]:
    """Lines after the skipped ones: some that are not empty, or all."""
    head = b""
    while True:
        more = stream.read(_MIB)
        head += more
        lines = head.removeprefix(_UTF8_MARK).splitlines()[skipped:]
        # The last one may go on.
        if not more or sum(map(bool, lines[:-1])) >= 2:
            return lines


def _utf8(stream: Any, encoding: str, comment: str | None) -> Any:
    """The text of a stream in UTF-8, with empty lines in place of comments."""
    if encoding != "utf8":
        stream = pa.transcoding_input_stream(stream, encoding, "utf8")
    return stream if comment is None else pa.TransformInputStream(stream, _Comments(comment))


class _Comments:
    """Empties the lines of a stream that begin with a character, one chunk of bytes after the other."""

    def __init__(self, character: str) -> None:
        self._character = character.encode()
        self._comment = re.compile(rb"([\r\n])" + re.escape(self._character) + rb"[^\r\n]*")
        self._mark = _UTF8_MARK
        #: Stands for what comes before a chunk: a line break, also with a comment begun, or other text.
        self._before = b"\n"

    def __call__(self, chunk: Any) -> bytes:
        text = self._before + bytes(chunk).removeprefix(self._mark)
        first = text[max(text.rfind(b"\r"), text.rfind(b"\n")) + 1 :][:1]
        self._before = b"\n" + first if first in (b"", self._character) else b"x"
        self._mark = b""
        return self._comment.sub(rb"\1", text)[1:]


def _without_blanks(column: pa.Array) -> pa.Array:
    """Text without blanks around it and around its quotes; null if nothing is left."""
    text = pc.utf8_trim_whitespace(column)
    if pc.any(pc.starts_with(text, '"')).as_py():
        # Quotes after a blank are not recognised by the reader.
        quoted = pc.match_substring_regex(column, _QUOTED)
        inside = pc.replace_substring(pc.replace_substring_regex(column, _QUOTED, r"\1"), '""', '"')
        text = pc.if_else(quoted, pc.utf8_trim_whitespace(inside), text)
    return pc.if_else(pc.equal(text, ""), None, text)


def _choose(choose: Choose, present: list[str]) -> Columns:
    try:
        return choose(present)
    except UserError as error:
        raise UserError(error.where, error.problem, heading_advice(present) or error.advice) from error


def heading_advice(names: Sequence[str]) -> str:
    """What to do if the heading of a CSV file does not have the expected columns.

    Args:
        names: The names in the heading.

    Returns:
        Advice, which names the settings to change; empty if the line may well be a heading.
    """
    if names[0].startswith(tuple(_COMMENTS)):
        return _comment_advice(names[0][0])
    if len(names) == 1:
        return f"its heading is one field, {names[0][:80]!r}; set data.csv.delimiter or data.csv.skip_lines"
    if len(dates_among(names)) == 1:
        return f"its first line ({', '.join(names[:8])}) has values; write a heading above it"
    return ""


def _comment_advice(character: str) -> str:
    return f'if lines that begin with {character} are comments, set data.csv.comment to "{character}"'


def _encoding_advice(settings: CsvSettings) -> str:
    if settings.encoding is not None:
        return f"set data.csv.encoding to its encoding, which is not {settings.encoding}"
    return "save it in UTF-8, or set data.csv.encoding to its encoding, such as cp1252"


def _advice(reason: str, form: _Form, settings: CsvSettings) -> str:
    """What to do about an error of the CSV reader."""
    if "invalid UTF8" in reason or "codec can't decode" in reason:
        return _encoding_advice(settings)
    if reason.startswith("Could not skip"):
        return "set data.csv.skip_lines to the number of lines before the heading"
    counts = re.match(r"CSV parse error: Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", reason, re.DOTALL)
    if counts is None:
        return ""
    expected, received, row = int(counts[2]), int(counts[3]), counts[4]
    if settings.comment is None:
        for line in (row.lstrip(), form.heading.decode("utf8", "replace")):
            if line.startswith(tuple(_COMMENTS)):
                return _comment_advice(line[0])
    if expected == 1:
        return "if the heading is further below, set data.csv.skip_lines; or set data.csv.delimiter"
    quotes = "write fields that hold the delimiter in quotes"
    if received > expected and form.delimiter == "," and re.search(r"\d,\d", row):
        both = "data.csv.delimiter: semicolon, data.decimal: comma"
        return f"{quotes}; numbers with decimal commas need another delimiter ({both})"
    return f"{quotes}, or set data.csv.delimiter to another one"
