"""Recordings on the page: the one of a moment, its pictures one by one, its sound. See `edge_agent.keeping`.

Nothing is encoded that is not looked at: a picture is drawn when it is shown, one at a time for all who look.
"""

import threading
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from edge_agent.errors import EdgeAgentError
from edge_agent.keeping.recording import NAME, recordings, sample_of
from edge_agent.keeping.recording_export import predictions_of
from edge_agent.monitoring.agent_status import AgentStatus
from edge_agent.monitoring.page import recorded
from edge_agent.monitoring.page.answers import Answer, Request, as_json, in_words, not_found
from edge_agent.preprocess.decoding import pixels_of
from edge_agent.publish.drawing import annotate, encode_jpeg
from edge_agent.sample_store.segment import StoreError, read_entry

# Seconds around a moment within which a recording may have been named, and recordings that are opened for it.
NEAR, MOST_OPENED = 900.0, 20
SIDE, MOST_BYTES = 960, 120_000
KEPT = ("Cache-Control", "private, max-age=600")


class Recordings:
    """The recordings of an agent's pipelines.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: AgentStatus) -> None:
        self._agent = agent
        self._lock = threading.Lock()
        self._latest: tuple[Path, recorded.Shown] | None = None

    def of_moment(self, request: Request) -> Answer:
        """The recording of a pipeline that shows the moment `at`, in seconds since the epoch."""
        folder, at = self._folder(request.name), request.number("at", 0.0)
        if folder is None:
            return not_found("recording: the pipeline does not record")
        try:
            near = [path for path in reversed(recordings(folder)) if abs(_named(path) - at) < NEAR]
        except OSError:
            near = []
        for path in near[:MOST_OPENED]:
            try:
                shown = self._shown(path)
            except (StoreError, OSError):
                continue
            if shown is not None and shown["begins"] - 1 <= at <= shown["ends"] + 1:
                return as_json(shown)
        return not_found("recording of this moment; what is being recorded is shown when it has ended")

    def frame(self, request: Request) -> Answer:
        """One picture of a recording, the one at the offset `at`, with what was found in it."""
        path = self._path(request)
        if path is None:
            return not_found("recording")
        with self._lock:
            try:
                entry = read_entry(path, int(request.number("at", 0)))
                picture = pixels_of(sample_of(entry).data)
            except (EdgeAgentError, OSError, ValueError) as error:
                return in_words(HTTPStatus.NOT_FOUND, str(error))
            if picture is None:
                return not_found("picture")
            jpeg = encode_jpeg(annotate(picture, predictions_of(entry), max_side=SIDE), MOST_BYTES)
        return Answer(HTTPStatus.OK, jpeg, "image/jpeg", (KEPT,))

    def sound(self, request: Request) -> Answer:
        """The sound of a recording as WAV, of four minutes at 16 kHz at most."""
        path = self._path(request)
        if path is None:
            return not_found("recording")
        with self._lock:
            try:
                heard = recorded.sound(path)
            except (StoreError, OSError) as error:
                return in_words(HTTPStatus.NOT_FOUND, str(error))
        return not_found("sound") if heard is None else Answer(HTTPStatus.OK, heard, "audio/wav", (KEPT,))

    def _shown(self, path: Path) -> recorded.Shown | None:
        """What a recording shows; it is read once for all who look at the same one."""
        with self._lock:
            if self._latest is None or self._latest[0] != path:
                shown = recorded.show(path)
                if shown is None:
                    return None
                self._latest = path, shown
            return self._latest[1]

    def _path(self, request: Request) -> Path | None:
        folder = self._folder(request.text("pipeline"))
        return None if folder is None or not NAME.fullmatch(request.name) else folder / request.name

    def _folder(self, pipeline: str) -> Path | None:
        config = self._agent.config()
        options = config.settings.pipelines.get(pipeline)
        return None if options is None or options.record is None else config.kept_path("recordings", pipeline)


def _named(path: Path) -> float:
    """The moment in the name of a recording, `00000001-20261130T075738Z-event.recording`."""
    try:
        return datetime.strptime(path.name.split("-")[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (ValueError, IndexError):
        return 0.0
