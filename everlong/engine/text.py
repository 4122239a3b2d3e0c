"""The text of one output as its tokens come, without anything that could be taken back."""

from __future__ import annotations

from everlong.tokenizer.tokenizer import StreamDecoder, Tokenizer


class TextAssembler:
    """Turns token ids into text that is certain, and ends it before the first stop string.

    The texts of all ``push`` calls and of ``flush`` together are the text of all tokens, cut
    before the stop string that is completed first; of several that end at the same character,
    before the longest. Text that may be the beginning of a stop string is held back until it is
    known, and so are the bytes of an unfinished character. Characters are compared about once
    for each stop string, however long those are.

    Args:
        tokenizer: whose token ids they are.
        stop: the stop strings, none of them empty.
        skip_special: leave special tokens out of the text.
        min_tokens: a stop string that is completed by one of the first so many tokens counts as
            ordinary text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: tuple[str, ...] = (),
        skip_special: bool = True,
        min_tokens: int = 0,
    ) -> None:
        self._decoder = StreamDecoder(tokenizer, skip_special)
        self._finders = [_Finder(text) for text in dict.fromkeys(stop)]
        self._tokens_to_ignore = min_tokens
        self._held = ""
        self._matched = False

    def push(self, token_id: int) -> tuple[str, bool]:
        """Add a token.

        Returns:
            The text that became certain, and whether a stop string was found. Then this text is
            the last.
        """
        assert not self._matched, "the text has ended"
        counts = self._tokens_to_ignore <= 0
        self._tokens_to_ignore -= 1
        return self._advance(self._decoder.push(token_id), counts), self._matched

    def flush(self) -> str:
        """The end of the text, when no more tokens come: all that was held back.

        Empty after a stop string was found.
        """
        if self._matched:
            return ""
        text = self._advance(self._decoder.flush(), counts=self._tokens_to_ignore <= 0)
        held, self._held = self._held, ""
        return text if self._matched else text + held

    def _advance(self, text: str, counts: bool) -> str:
        if not self._finders:
            return text
        known = len(self._held)
        text = self._held + text
        for end in range(known + 1, len(text) + 1):
            found = max(finder.advance(text[end - 1]) for finder in self._finders)
            if found and counts:
                self._matched = True
                self._held = ""
                return text[: end - found]
        certain = len(text) - max(finder.matched for finder in self._finders)
        self._held = text[certain:]
        return text[:certain]


class _Finder:
    """Looks for one string in characters that come one by one (Knuth, Morris, Pratt 1977)."""

    def __init__(self, text: str) -> None:
        assert text, "a stop string is not empty"
        self._text = text
        # _shorter[n]: length of the longest proper prefix of text[:n] that also ends it.
        self._shorter = [0, 0]
        for character in text[1:]:
            self._shorter.append(self._extend(self._shorter[-1], character))
        self.matched = 0
        """Characters of the string that the text ends with."""

    def advance(self, character: str) -> int:
        """Read a character; the length of the string if it is complete now, else 0."""
        self.matched = self._extend(self.matched, character)
        if self.matched < len(self._text):
            return 0
        self.matched = self._shorter[self.matched]
        return len(self._text)

    def _extend(self, matched: int, character: str) -> int:
        while matched and self._text[matched] != character:
            matched = self._shorter[matched]
        return matched + (self._text[matched] == character)
