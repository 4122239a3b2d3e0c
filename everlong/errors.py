"""The exceptions that Everlong raises for what a user can change.

Every message says what was given, what is allowed, and what to change. A bug of our own is an
``AssertionError`` and never one of these. The tree::

    EverlongError
    ├── ConfigError            a setting or option that cannot be
    │   └── MissingDataError       a data set that is not there
    ├── DataError              training data that cannot be used as it is
    ├── CheckpointError        a model folder or file that cannot be read
    │   ├── UnsupportedError       well-formed, but of a kind that is not implemented
    │   └── DownloadError          could not be fetched, or its checksum differs
    ├── TemplateError          a chat template that fails, or takes too long
    ├── RequestError           a request that cannot be served as it stands
    │   ├── ContextLengthError     longer than the window
    │   ├── UnknownModelError      names a model or an adapter that is not loaded
    │   ├── QueueFullError         too many wait already; try again later
    │   └── QuotaError             a namespace remembers as much as it may
    ├── CancelledError         the request was cancelled
    ├── EngineStoppedError     the engine was shut down, or failed
    ├── StoreError             the memory's files cannot be used as they are
    │   └── DamagedError           bytes are not those that were written
    └── MissingExtraError      an optional dependency is not installed
"""


class EverlongError(Exception):
    """Base of every error that a user can act on."""


class ConfigError(EverlongError, ValueError):
    """A setting has a value that is not allowed."""


class MissingDataError(ConfigError):
    """A data set is not where it was looked for."""


class DataError(EverlongError):
    """Training data are missing, damaged, or not what they say they are."""


class CheckpointError(EverlongError):
    """A checkpoint is missing, damaged, or not what it says it is."""


class UnsupportedError(CheckpointError):
    """A checkpoint is well-formed but uses something that Everlong does not implement."""


class DownloadError(CheckpointError):
    """A checkpoint could not be fetched, or what was fetched has another checksum."""


class TemplateError(EverlongError, ValueError):
    """A chat template is invalid, refuses the messages, or exceeds its limits."""


class RequestError(EverlongError, ValueError):
    """A request cannot be served as it stands."""


class ContextLengthError(RequestError):
    """A request needs more tokens than the window has."""


class UnknownModelError(RequestError):
    """A request names a model or an adapter that is not loaded."""


class QueueFullError(RequestError):
    """Too many requests wait already.

    Args:
        message: what is full, and how large it is.
        retry_after: seconds after which a retry is likely to be accepted.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaError(RequestError):
    """A namespace remembers as much as it may; something has to be forgotten first."""


class CancelledError(EverlongError):
    """The request was cancelled before it finished."""


class EngineStoppedError(EverlongError):
    """The engine was shut down, or failed, before the request finished."""


class StoreError(EverlongError):
    """The memory's files cannot be used as they are."""


class DamagedError(StoreError):
    """Bytes on the disk are not those that were written; what they held has to be made again."""


class MissingExtraError(EverlongError, ImportError):
    """An optional dependency is not installed.

    Args:
        package: the module that could not be imported.
        extra: the extra of Everlong that brings it, e.g. ``"serve"``.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; it comes with: pip install 'everlong[{extra}]'"
        )
