"""PDF files for tests, written by hand."""

from __future__ import annotations

from collections.abc import Sequence

_ENCRYPT = (
    b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <" + b"11" * 32 + b"> /U <" + b"22" * 32 + b"> >>"
)


def pdf(pages: Sequence[Sequence[str]], title: str = "", encrypted: bool = False) -> bytes:
    """A file whose pages have such lines, from the top to the bottom."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Title (%s) >>" % title.encode()]
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    kids = []
    for lines in pages:
        shown = "".join(f"({line}) Tj 0 -14 Td " for line in lines)
        content = f"BT /F1 11 Tf 50 780 Td {shown}ET".encode("latin-1")
        objects.append(b"<< /Length %d >> stream\n%s\nendstream" % (len(content), content))
        kids.append(len(objects) + 1)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 842] /Contents %d 0 R "
            b"/Resources << /Font << /F1 4 0 R >> >> >>" % len(objects)
        )
    named = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), named)
    if encrypted:
        objects.append(_ENCRYPT)
    data = b"%PDF-1.4\n"
    places = []
    for number, one in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    more = b" /Encrypt %d 0 R /ID [<00> <00>]" % len(objects) if encrypted else b""
    return data + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R /Info 3 0 R%s >>\n"
        b"startxref\n%d\n%%%%EOF" % (len(objects) + 1, table, len(objects) + 1, more, len(data))
    )
