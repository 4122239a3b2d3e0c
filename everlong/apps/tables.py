"""Tables that commands show."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from everlong.tokenizer.fertility import Fertility


def fertility_table(found: Mapping[str, Fertility]) -> Table:
    """Languages, those first whose text takes fewest tokens a letter."""
    table = Table("language", "texts", "tokens a word", "tokens a letter", "bytes a token")
    for column in table.columns[1:]:
        column.justify = "right"
    for language, one in sorted(found.items(), key=lambda item: item[1].per_letter):
        figures = (f"{one.per_word:.2f}", f"{one.per_letter:.2f}", f"{one.bytes_each:.2f}")
        table.add_row(language, f"{one.texts:,}", *figures)
    return table
