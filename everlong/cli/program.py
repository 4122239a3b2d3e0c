"""The program: parse, build a config, make one call."""

from __future__ import annotations

import sys
import warnings

from jsonargparse import Namespace, set_parsing_settings

from everlong.apps.models import Texts
from everlong.cli.commands import several
from everlong.cli.spelling import DashedParser, as_parsed
from everlong.cli.table import COMMANDS
from everlong.errors import EverlongError

_LISTS = ("api_key", "allowed_hosts", "allowed_origins")
"""Settings of a server that may be given several times."""


def build_parser() -> DashedParser:
    """The parser of the whole command line."""
    from everlong.serving.config import ServeConfig

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = DashedParser(
        prog="everlong", description="Language models that remember, on a plain CPU."
    )
    commands = parser.add_subcommands(required=True, dest="command")
    for name, command in COMMANDS.items():
        sub = DashedParser(description=command.about, epilog=f"example: everlong {command.example}")
        if name == "serve":
            sub.add_class_arguments(
                ServeConfig, as_group=False, as_positional=True, skip=set(_LISTS)
            )
            for option in _LISTS:
                told = f"{option.replace('_', ' ')}, one or a list"
                sub.add_argument(f"--{option}", type=Texts, default=(), help=told)
            sub.add_argument("--config", action="config", help="YAML file with these settings")
        else:
            sub.add_function_arguments(command.function, as_group=False, as_positional=True)
        commands.add_subcommand(name, sub, help=command.about)
    return parser


def run(arguments: Namespace) -> None:
    """Carry out a parsed command line."""
    name = arguments.command
    options = vars(arguments[name])
    if name == "serve":
        from everlong.serving.config import ServeConfig

        options.pop("config", None)
        for option in _LISTS:
            options[option] = several(options[option])
        options = {"config": ServeConfig(**options)}
    COMMANDS[name].function(**options)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``everlong``; returns the exit status."""
    warnings.showwarning = lambda message, *_, **__: print(f"everlong: {message}", file=sys.stderr)
    given = sys.argv[1:] if arguments is None else arguments
    parsed = build_parser().parse_args(as_parsed(given, COMMANDS))
    try:
        run(parsed)
    except EverlongError as error:
        print(f"everlong: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("everlong: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:  # a full disk, a folder that is not ours
        print(f"everlong: error: {error}", file=sys.stderr)
        return 2
    return 0
