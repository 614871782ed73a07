"""CSV as other programs write it: what is read without being asked, what a setting reads, and what is refused."""

import gzip
import io

import pyarrow as pa
import pytest

from dist_lstm.config.table import CsvSettings
from dist_lstm.data import csv_files
from dist_lstm.data.columns import Columns
from dist_lstm.data.csv_files import _Comments, csv_pieces
from tests.data.conftest import message, rows

HEAD = "unique_id,ds,y\n"
TABLE = HEAD + "a,1,1.5\na,2,2.5\nb,1,3.5\n"
EXPECTED = [("a", 1, 1.5), ("a", 2, 2.5), ("b", 1, 3.5)]


@pytest.fixture
def write(tmp_path):
    """Write a CSV file of text or bytes; its path."""

    def write_file(content: str | bytes, name: str = "t.csv"):
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return tmp_path / name

    return write_file


def read(path, **settings) -> list[tuple]:
    return [(row["unique_id"], row["ds"], row["y"]) for row in rows(path, **settings)]


SAME_TABLE = {
    "blanks after commas": TABLE.replace(",", ", "),
    "blanks before commas": TABLE.replace(",", "  ,"),
    "tabs around commas": TABLE.replace(",", "\t,\t"),
    "blanks at both ends of a line": TABLE.replace("\n", " \n ").rstrip(" "),
    "non-breaking blanks": TABLE.replace(",", ",\u00a0"),
    "quotes": '"unique_id","ds","y"\n"a","1","1.5"\n"a","2","2.5"\n"b","1","3.5"\n',
    "quotes after blanks": '"unique_id", "ds", "y"\n"a", "1", "1.5"\n"a", "2", "2.5"\n"b", "1", "3.5"\n',
    "semicolons": TABLE.replace(",", ";"),
    "tabs": TABLE.replace(",", "\t"),
    "pipes": TABLE.replace(",", "|"),
    "a line sep=": "sep=,\n" + TABLE,
    "a line sep=;": "sep=;\r\n" + TABLE.replace(",", ";").replace("\n", "\r\n"),
    "a quoted line SEP=": '"SEP=^"\n' + TABLE.replace(",", "^"),
    "a line sep= of a tab": "sep=\t\n" + TABLE.replace(",", "\t"),
    "line breaks of Windows": TABLE.replace("\n", "\r\n"),
    "line breaks of old Macs": TABLE.replace("\n", "\r"),
    "no last line break": TABLE.rstrip("\n"),
    "empty lines": "\n\n" + TABLE.replace("\n", "\n\n"),
    "a delimiter at the end of each line": TABLE.replace("\n", ",\n"),
    "another order": "y,ds,unique_id\n1.5,1,a\n2.5,2,a\n3.5,1,b\n",
    "other columns": 'n,unique_id,n,ds,y\n"x\ny",a,,1,1.5\n,a,,2,2.5\n,b,,1,3.5\n',
    "a byte order mark": TABLE.encode("utf-8-sig"),
    "a byte order mark and a line sep=": ("sep=,\n" + TABLE).encode("utf-8-sig"),
    "UTF-16": TABLE.encode("utf-16"),
    "UTF-16 of big-endian machines": b"\xfe\xff" + TABLE.encode("utf-16-be"),
    "UTF-16 with tabs, as of spreadsheets": TABLE.replace(",", "\t").replace("\n", "\r\n").encode("utf-16"),
}


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("kind", SAME_TABLE)
def test_what_is_written_otherwise_is_read_without_being_asked(kind, name, write):
    assert read(write(SAME_TABLE[kind], name)) == EXPECTED


COMMENTED = '# made by x, 2024, "y\n#\n' + TABLE.replace("a,2", "# a,9,9\na,2") + "#end"
BY_SETTING = {
    "a delimiter": (TABLE.replace(",", " "), {"delimiter": "space"}),
    "a delimiter that the heading has less often": (
        'unique_id;ds;y;"n";a,b,c,d,e\na;1;1.5;;\na;2;2.5;;\nb;1;3.5;;\n',
        {"delimiter": "semicolon"},
    ),
    "a delimiter other than that of the first line": ("sep=;\n" + TABLE, {"delimiter": "comma"}),
    "comments": (COMMENTED, {"comment": "#"}),
    "comments, line breaks of Windows": (COMMENTED.replace("\n", "\r\n"), {"comment": "#"}),
    "comments, line breaks of old Macs": (COMMENTED.replace("\n", "\r"), {"comment": "#"}),
    "comments, a byte order mark": (COMMENTED.encode("utf-8-sig"), {"comment": "#"}),
    "comments, UTF-16": (COMMENTED.encode("utf-16"), {"comment": "#"}),
    "a title": ('Sales; by day, (5" pipes)\n\n' + TABLE, {"skip_lines": 2}),
    "a title and comments": ("Sales\n" + COMMENTED, {"skip_lines": 1, "comment": "#"}),
    "a title and a line sep=": ("Sales\nsep=;\n" + TABLE.replace(",", ";"), {"skip_lines": 1}),
    "an encoding": (TABLE.replace("\n", ",\xfc\n").encode("cp1252"), {"encoding": "cp1252"}),
    "UTF-16 without a mark": (TABLE.encode("utf-16-le"), {"encoding": "utf-16-le"}),
}


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("kind", BY_SETTING)
def test_what_needs_a_choice_is_read_as_the_settings_say(kind, name, write):
    content, csv = BY_SETTING[kind]
    assert read(write(content, name), csv=csv) == EXPECTED


def test_blanks_are_not_part_of_names_but_may_stand_inside_them(write):
    path = write('ds, unique_id, y, kind\n1, New York , 1, " x"" y "\n2,"  ",2,z\n'.replace('"  "', "b"))
    actual = rows(path, static_categories=["kind"])
    assert [(row["unique_id"], row["kind"]) for row in actual] == [("New York", 'x" y'), ("b", "z")]
    assert "row 1: expected the name of a series, got None" in message(write("ds,unique_id,y\n1,  ,1\n"))


def test_columns_of_a_wide_table_are_series_without_the_blanks_of_the_heading(write):
    actual = rows(write("ds, a b , c\n1, 1, 2\n"), layout="wide")
    assert [(row["unique_id"], row["y"]) for row in actual] == [("a b", 1), ("c", 2)]


def test_names_that_differ_in_blanks_only_are_refused(write):
    assert "has 2 columns called 'ds'" in message(write("unique_id,ds, ds,y\na,1,1,1\n"))


def test_the_comments_of_a_stream_are_emptied_wherever_its_chunks_end():
    text = b"\xef\xbb\xbf#a\n#\r\n##b,#\rx,#y\n\n#c\n y#\r\n#d"
    expected = b"\n\r\n\rx,#y\n\n\n y#\r\n"
    for first in range(3, len(text)):
        for second in range(first, len(text) + 1):
            remove = _Comments("#")
            parts = (text[:first], text[first:second], text[second:])
            assert b"".join(remove(part) for part in parts) == expected


def test_comments_and_blanks_of_a_table_of_many_blocks_are_left_out(write):
    lines = [f"# {row}\n a, {row}, {row / 4}\n" for row in range(200_000)]
    path = write(HEAD + "".join(lines))
    assert path.stat().st_size > 4 * csv_files._MIB
    actual = read(path, csv={"comment": "#"})
    assert actual == [("a", row, row / 4) for row in range(200_000)]


class Endless(io.RawIOBase):
    """A CSV file of more rows than any memory holds."""

    def __init__(self):
        self.size = 0

    def readable(self):
        return True

    def read(self, size=-1):
        rows = b"a,1,1\n" * (max(size, 6) // 6)
        text = rows if self.size else HEAD.encode()
        self.size += len(text)
        return text


@pytest.mark.parametrize("csv", [{}, {"comment": "#"}, {"encoding": "latin-1"}], ids=str)
def test_a_table_is_read_block_by_block(csv):
    opened = []

    def open_file():
        opened.append(Endless())
        return pa.PythonFile(opened[-1], mode="r")

    columns = Columns("unique_id", "ds", ("y",), False, (), ())
    pieces = csv_pieces(open_file, "t.csv", CsvSettings(**csv), lambda _: columns)
    assert sum(len(next(pieces)[1]) for _ in range(3)) > 100_000
    assert max(stream.size for stream in opened) < 100 * csv_files._MIB


REFUSED = {
    "a name in upper case": (
        "UNIQUE_ID,ds,y\na,1,1\n",
        "but 'UNIQUE_ID'; set data.columns.unique_id to UNIQUE_ID",
    ),
    "another name in another case": ("unique_id,Timestamp,y\na,1,1\n", "set data.columns.ds to Timestamp"),
    "values in another case": ("unique_id,ds,Y\na,1,1\n", "has no column 'y', but 'Y'; set data.columns.y to Y"),
    "no heading": (
        "a,2024-01-31,5\na,2024-02-01,6\n",
        "its first line (a, 2024-01-31, 5) has values; write a heading",
    ),
    "dates as columns": (
        "unique_id,2024-01-31,2024-02-01\na,5,6\n",
        "each date, such as 2024-01-31 and 2024-02-01; t",
    ),
    "days and months as columns": (
        "unique_id,1/22/20,1/23/20\na,5,6\n",
        "each date, such as 1/22/20 and 1/23/20; tra",
    ),
    "years as columns": ("Country Name,1960,1961\nAruba,5,6\n", "such as 1960 and 1961; transpose it"),
    "quarters as columns": ("unique_id,2024Q1,2024Q2\na,5,6\n", "data.layout to wide"),
    "another delimiter": (
        TABLE.replace(",", "^"),
        "its heading is one field, 'unique_id^ds^y'; set data.csv.delimiter",
    ),
    "a comment": ("# made by x, y\n" + TABLE, 'set data.csv.comment to "#"'),
    "a comment of as many fields": ("#a,b,c\n" + TABLE, 'set data.csv.comment to "#"'),
    "a late comment": (TABLE + "# end\n", "line 5: expected 3 columns, got 1: # end; if lines that begin with #"),
    "a title": ("Sales\n" + TABLE, "set data.csv.skip_lines"),
    "decimal commas without quotes": (HEAD + "a,1,1,5\n", "data.csv.delimiter: semicolon, data.decimal: comma"),
    "decimal commas": (TABLE.replace(",", ";").replace(".5", ",5"), "got '1,5'; set data.decimal to comma"),
    "a delimiter in a name": (HEAD + "a,b,1,1\n", "write fields that hold the delimiter in quotes"),
    "another encoding": ("unique_id,ds,y\nKöln,1,1\n".encode("cp1252"), "set data.csv.encoding to its encoding"),
    "a heading in another encoding": ("unique_id,ds,y,Größe\na,1,1,2\n".encode("cp1252"), "set data.csv.encoding"),
    "UTF-16 without a mark": (TABLE.encode("utf-16-le"), "NUL bytes; if it is text, set data.csv.encoding"),
    "damaged UTF-16": (TABLE.encode("utf-16")[:-1], "can't be read as csv"),
    "a repeated heading": (
        TABLE + HEAD,
        "row 4 (unique_id 'unique_id'): expected a whole number, as in the rows bef",
    ),
    "a repeated heading of dates": (
        HEAD + "a,2024-01-31,1\n" + HEAD,
        "the heading is repeated there; delete that row",
    ),
    "a row without anything": (TABLE + ",,\n", "row 4: expected the name of a series, got None"),
    "a total": (TABLE + "Total,,7.5\n", "row 4 (unique_id 'Total')"),
    "more lines to skip than there are": ("", "mpty"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_not_be_read_is_refused_with_the_remedy(kind, write):
    content, expected = REFUSED[kind]
    assert expected in message(write(content))


@pytest.mark.parametrize(
    ("content", "settings", "expected"),
    [
        (TABLE.encode("utf-8") + b"\xff,3,1\n", {"encoding": "utf-8"}, "encoding, which is not utf-8"),
        (TABLE.encode("utf-8"), {"encoding": "utf-16-le"}, "which is not utf-16-le"),
        (TABLE + "#\na,1\n", {"comment": "#"}, "line 5, comments not counted: expected 3 columns, got 2: a,1"),
        (TABLE, {"skip_lines": 10}, "set data.csv.skip_lines to the number of lines before"),
        (TABLE, {"delimiter": "tab"}, "its heading is one field, 'unique_id,ds,y'; set data.csv.delimiter"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_settings_that_do_not_fit_the_file_are_named(content, settings, expected, write):
    assert expected in message(write(content), csv=settings)


@pytest.mark.parametrize("names", ["2024-01-31,2024-02-29", "1/31/2024,2/29/2024,x", "31.1.2024,29.2.2024"])
def test_a_wide_table_of_dates_as_columns_is_refused_unless_they_are_listed(names, write):
    path = write(f"ds,{names}\n1{',5' * len(names.split(','))}\n")
    got = message(path, layout="wide")
    assert "has a column for each date" in got
    assert "transpose it" in got
    assert "data.columns.y" in got
    assert len(rows(path, layout="wide", y=names.split(","))) == len(names.split(","))


def test_years_as_columns_are_named_where_the_time_stamps_can_not_be_read(write):
    got = message(write("ds,1960,1961\nAruba,5,6\n"), layout="wide")
    assert "row 1: expected a time stamp" in got
    assert "transpose it" in got


def test_files_of_one_table_may_have_their_columns_in_any_order_and_form(write, tmp_path):
    write(TABLE, "1.csv")
    write("sep=;\ny; ds; unique_id\n4.5; 2; b\n", "2.csv")
    write("y\tds\tunique_id\n5.5\t3\tb\n".encode("utf-16"), "3.csv")
    assert read(tmp_path) == [*EXPECTED, ("b", 2, 4.5), ("b", 3, 5.5)]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("a,2024-01-31,5\n", "2.csv: has no column 'unique_id'; its first line (a, 2024-01-31, 5) has values"),
        ("Unique_id,ds,y\na,5,5\n", "2.csv: has no column 'unique_id', but 'Unique_id'"),
        ("unique_id,ds\na,5\n", "2.csv: has no column 'y'; set data.columns.y to one of unique_id, ds"),
    ],
)
def test_a_file_with_another_heading_than_the_first_is_named(second, expected, write, tmp_path):
    write(TABLE, "1.csv")
    write(second, "2.csv")
    assert expected in message(tmp_path)
