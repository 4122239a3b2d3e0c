"""Manual pages as text."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.documents.extracted import Extracted, Refused
from everlong.documents.manual_page import text_of
from everlong.documents.reading import read

MAN = r""".\" a comment
.TH NAME 1
.SH NAME
tool \- does \fBgood\fP things
.SH "SEE ALSO"
.B bold words
.BR other (1),
and
.IR more .
.TP
.B \-\-long
explained here
.IP \(bu
a point
.PP
.nf
kept   as it is
.fi
.TS
l l.
not	shown
.TE
.ie \n(.g .ds Aq \(aq
.de URL
not shown
..
Line with \(lqquotes\(rq and \[u00E9].
"""

MDOC = """.Dd today
.Dt TOOL 1
.Sh NAME
.Nm tool
.Nd does good things
.Sh SYNOPSIS
.Nm
.Op Fl v
.Op Fl o Ar file
.Sh DESCRIPTION
.Nm
reads
.Ar file ,
see
.Xr other 1 .
"""


def test_a_page_of_man() -> None:
    lines = text_of(MAN).split("\n")
    assert "# NAME" in lines
    assert "tool - does good things" in lines
    assert "# SEE ALSO" in lines
    assert "bold words other(1), and more." in lines
    assert "--long explained here" in lines
    assert "- a point" in lines
    assert "    kept   as it is" in lines
    assert lines[-1] == "Line with “quotes” and é."
    assert "not" not in " ".join(lines)


def test_a_page_of_mdoc() -> None:
    text = text_of(MDOC)
    assert "tool does good things" in text
    assert "tool [-v] [-o file]" in text
    assert "tool reads file, see other 1." in text


@given(st.text(alphabet=".'\\\"[](){}*fsBI \n-aTHSP~", max_size=300))
def test_nothing_breaks_it(page: str) -> None:
    assert text_of(page) is not None


def test_hostile_pages_take_no_longer_than_others() -> None:
    for piece in ("\\[", "\\*(", "\\h'\"", '.B "', ".de x\n", "\\", '"" '):
        page, began = piece * 200_000, time.monotonic()
        text_of(page)
        assert time.monotonic() - began < 20, "not quadratic"


def test_files_are_read_by_their_section(tmp_path: Path) -> None:
    (tmp_path / "tool.1.gz").write_bytes(gzip.compress(MAN.encode()))
    (one,) = read(tmp_path / "tool.1.gz")
    assert isinstance(one, Extracted)
    assert one.title == "NAME"
    assert one.text == text_of(MAN)
    mdoc = '.Dd May 1\n.Dt "TOOL KIT" 8\n.Sh NAME\n.Nm tool\n'
    (tmp_path / "tool.8").write_text(mdoc)
    (one,) = read(tmp_path / "tool.8")
    assert isinstance(one, Extracted)
    assert one.title == "TOOL KIT"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("12:00 started\n.\n", "no manual page"),
        (".so man1/other.1\n", "no manual page"),
        (".TH TOOL 1\n", "without text"),
    ],
)
def test_what_is_no_page_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "service.log.1").write_text(text)
    (one,) = read(tmp_path / "service.log.1")
    assert isinstance(one, Refused)
    assert told in one.reason
