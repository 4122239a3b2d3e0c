"""Programs with their tests, run in the sandbox, in the languages whose tools are installed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from everlong.code.sandbox import Limits, run, run_python

LIMITS = Limits(seconds=10, cpu_seconds=10)
_COMPILED = Limits(seconds=30, cpu_seconds=30, memory=4 << 30, processes=48, disk=64 << 20)

_LODASH = "exports.isEqual = require('util').isDeepStrictEqual;\n"
_DATA_COMPARE = """package Data::Compare;
use strict;
use Exporter 'import';
our @EXPORT = ('Compare');
sub Compare {
    my ($x, $y) = @_;
    return !defined $x && !defined $y unless defined $x && defined $y;
    return 0 unless ref $x eq ref $y;
    if (ref $x eq 'ARRAY') {
        return 0 unless @$x == @$y;
        for my $i (0 .. $#$x) { return 0 unless Compare($x->[$i], $y->[$i]); }
        return 1;
    }
    if (ref $x eq 'HASH') {
        return 0 unless keys %$x == keys %$y;
        for my $k (keys %$x) { return 0 unless exists $y->{$k} && Compare($x->{$k}, $y->{$k}); }
        return 1;
    }
    my $number = qr/^-?[\\d.]+(e[-+]?\\d+)?$/;
    return $x eq $y || ($x =~ $number && $y =~ $number && $x == $y);
}
1;
"""


@dataclass(frozen=True)
class Language:
    """How programs of a language are run."""

    tool: str
    """Without it, nothing of the language can be run."""
    file: str
    command: str
    """For the shell, in the folder of the file."""
    stop: tuple[str, ...]
    """Texts that come after a function's end."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Small stand-ins for the libraries that the published tests ask for."""


LANGUAGES: Mapping[str, Language] = {
    "python": Language(
        "python3", "main.py", "", ("\ndef ", "\nclass ", "\nif ", "\nprint", "\nassert", "\n#")
    ),
    "javascript": Language(
        "node",
        "main.js",
        "node main.js",
        ("\nfunction ", "\n/*", "\n//", "\nconsole", "\nconst ", "\nmodule"),
        {"node_modules/lodash/index.js": _LODASH},
    ),
    "perl": Language(
        "perl",
        "main.pl",
        "perl -I. main.pl",
        ("\nsub ", "\n#", "\nprint", "\nmy ", "\n1;"),
        {"Data/Compare.pm": _DATA_COMPARE},
    ),
    "ruby": Language("ruby", "main.rb", "ruby main.rb", ("\ndef ", "\n#", "\nputs ", "\nclass ")),
    "php": Language("php", "main.php", "php main.php", ("\nfunction ", "\n/*", "\n?>", "\necho ")),
    "cpp": Language(
        "g++",
        "main.cpp",
        "g++ -O1 -std=c++17 -o main main.cpp && ./main",
        ("\nint main", "\n/*", "\n//", "\n#include"),
    ),
}
"""Those of MBXP's languages that run from one file without a project."""


@cache
def installed(language: str) -> bool:
    """Whether programs of a language can be run here."""
    known = LANGUAGES.get(language)
    return known is not None and (language == "python" or shutil.which(known.tool) is not None)


def passes(language: str, source: str) -> bool:
    """Whether a program with its tests runs to its end without complaint."""
    if language == "python":
        # A program that leaves early has not passed.
        ended = f"{source}\nprint('{_END}')\n"
        outcome = run_python(ended, limits=LIMITS)
        return outcome.status == "ok" and outcome.stdout.rstrip().endswith(_END)
    known = LANGUAGES[language]
    return (
        run(
            ["/bin/sh", "-c", known.command],
            files={known.file: source, **known.files},
            limits=_COMPILED,
        ).status
        == "ok"
    )


_END = "everlong: every test passed"
