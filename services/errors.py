"""Every refusal of the durable state: a stable code, and a message that says the remedy and never echoes the caller.

HTTP statuses belong to the API: nothing here knows of them.
"""

from __future__ import annotations

from purlkit.errors import PurlError


class ServiceError(PurlError):
    """Base of everything that services refuse or fail at."""

    code = "service_error"


class BadSetting(ServiceError):
    """An environment variable that the service can't start with."""

    code = "bad_setting"

    def __init__(self, variable: str, problem: str, *, remedy: str) -> None:
        super().__init__(f"{variable} {problem}", remedy=remedy)
        self.variable = variable


class SchemaMismatch(ServiceError):
    """The database's tables are of another version than this program's."""

    code = "schema_mismatch"


class NotFound(ServiceError):
    """There is no such thing here, or the id is not one of ours."""

    code = "not_found"

    def __init__(self, kind: str) -> None:
        super().__init__(f"there is no such {kind}")


class IllegalMove(ServiceError):
    """A state that can't be reached from the present one."""

    code = "illegal_move"


class InvalidCursor(ServiceError):
    """A cursor that no page of ours gave out."""

    code = "invalid_cursor"

    def __init__(self) -> None:
        super().__init__("the cursor is not one of ours", remedy="pass on `next` of the page before, unchanged")


class IdempotencyMismatch(ServiceError):
    """One Idempotency-Key with two different bodies."""

    code = "idempotency_mismatch"

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key came with another body before", remedy="use a new key for a new job")


class QueueFull(ServiceError):
    """As many jobs wait as this service lets wait."""

    code = "queue_full"

    def __init__(self, *, limit: int, whose: str = "") -> None:
        said = f"{limit} of {whose} jobs are waiting already" if whose else f"{limit} jobs are waiting already"
        super().__init__(said, remedy="try again when some of them have run")


class StorageQuota(ServiceError):
    """As many bytes are stored as this service may store."""

    code = "storage_quota"

    def __init__(self, *, limit: int, whose: str = "") -> None:
        said = f"the {limit} bytes that {'you may store' if whose else 'may be stored'} here are used up"
        super().__init__(said, remedy="delete jobs that are no longer needed")


class Unauthorized(ServiceError):
    """No key or token, a wrong one, or one of another attempt."""

    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__(
            "the key or token does not open this",
            remedy="send `Authorization: Bearer` with one that works: a key may have expired or been revoked, and the "
            "client takes it from PURL_API_KEY",
        )


class Forbidden(ServiceError):
    """A key that is good, for something else."""

    code = "forbidden"

    def __init__(self, scope: str) -> None:
        super().__init__(f"the key lacks the scope `{scope}`", remedy="ask with a key that has it")


class AttemptSuperseded(ServiceError):
    """The attempt has ended or was given up: nothing that it still says counts."""

    code = "attempt_superseded"

    def __init__(self) -> None:
        super().__init__("this attempt is over and changes nothing any more", remedy="end the process")


class InvalidKey(ServiceError):
    """What an API key can't be made of, or a text that is none."""

    code = "invalid_key"


class EventGap(ServiceError):
    """Events that came before these never arrived."""

    code = "event_gap"

    def __init__(self, *, expected: int) -> None:
        super().__init__("events before these are missing", remedy=f"send on from sequence number {expected}")
        self.expected = expected


class LogGap(ServiceError):
    """Bytes of the log that come before these never arrived."""

    code = "log_gap"

    def __init__(self, *, expected: int) -> None:
        super().__init__("bytes of the log before these are missing", remedy=f"send on from offset {expected}")


class InvalidEvent(ServiceError):
    """An event whose data is not what its type promises."""

    code = "invalid_event"


class InvalidFinish(ServiceError):
    """A last word that contradicts itself or what was uploaded before it."""

    code = "invalid_finish"


class ArtifactConflict(ServiceError):
    """One name, two contents, within one attempt."""

    code = "artifact_conflict"

    def __init__(self) -> None:
        super().__init__("this attempt sent other bytes under this name before", remedy="use another name")


class DigestMismatch(ServiceError):
    """The bytes that arrived are not the bytes that were announced."""

    code = "digest_mismatch"

    def __init__(self) -> None:
        super().__init__("the bytes don't match the digest that was sent with them", remedy="send them again")


class TooLarge(ServiceError):
    """More bytes than this service takes."""

    code = "too_large"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"this is larger than {limit} bytes", remedy="send less, or raise the limit in the settings")
        self.limit = limit


class StoreFull(ServiceError):
    """The disk below the artifacts has no room left."""

    code = "store_full"

    def __init__(self) -> None:
        super().__init__(
            "there is no room left for artifacts",
            remedy="free space below PURL_DATA_DIR and PURL_ARTIFACTS, then try again",
        )


class StoreUnavailable(ServiceError):
    """The store of artifacts fails, or does not answer."""

    code = "store_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "the store of artifacts fails", remedy="try again; should it last, look at PURL_ARTIFACTS and the log"
        )


class SweptMeanwhile(ServiceError):
    """Bytes that nobody named for long were removed just as somebody sent them again."""

    code = "swept_meanwhile"

    def __init__(self) -> None:
        super().__init__("these bytes were being removed as they came", remedy="send them again")


class LaunchFailed(ServiceError):
    """The place where attempts run does not take one."""

    code = "launch_failed"
