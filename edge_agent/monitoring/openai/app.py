"""The WSGI application behind `/v1/`: `chat/completions`, `responses` and `models`."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.monitoring.bounded_server import CHATS
from edge_agent.monitoring.hosts import allows_host
from edge_agent.monitoring.openai import completions, responses
from edge_agent.monitoring.openai.exchange import ClientGoneError, Exchange, StoppedError
from edge_agent.monitoring.openai.requests import ChatRequest, read_chat
from edge_agent.monitoring.openai.responses import ResponseRequest, read_response_request
from edge_agent.monitoring.page import access
from edge_agent.monitoring.web import App
from edge_agent.pipeline.text import BusyError, TextPipeline

COMPLETIONS, RESPONSES, MODELS = f"{CHATS}chat/completions", f"{CHATS}responses", f"{CHATS}models"
HEADERS = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))
JSON, EVENTS = "application/json", "text/event-stream"
RETRY_AFTER = "1"
# Status and type of an error, by its class; the first that fits.
ERRORS: tuple[tuple[type[EdgeAgentError], HTTPStatus, str], ...] = (
    (BusyError, HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error"),
    (InputError, HTTPStatus.BAD_REQUEST, "invalid_request_error"),
    (StoppedError, HTTPStatus.SERVICE_UNAVAILABLE, "server_error"),
    (EdgeAgentError, HTTPStatus.INTERNAL_SERVER_ERROR, "server_error"),
)
StartResponse = Callable[..., Any]
Pieces = completions.Chunks | responses.Events


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A request that is not answered, and why.

    Args:
        status: of the response.
        message: why.
        code: a word for it, for programs.
    """

    def __init__(self, status: HTTPStatus, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Chats:
    """The application.

    Args:
        pipelines: returns the pipelines that can be asked, by name.
        token: required as a bearer token; None: none is.
        hosts: further host names by which requests may be made; None: by any, a proxy takes care of that.
    """

    def __init__(
        self, pipelines: Callable[[], Mapping[str, TextPipeline]], token: str | None, hosts: Sequence[str] | None
    ) -> None:
        self._pipelines = pipelines
        self._token = token
        self._hosts = hosts

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request; see PEP 3333."""
        try:
            return self._answer(environ, start_response)
        except Refusal as refusal:
            error = _error(str(refusal), "invalid_request_error", refusal.code)
            return _respond(start_response, refusal.status, error)
        except EdgeAgentError as error:
            status, document = _described(error)
            return _respond(start_response, status, document)
        except ClientGoneError:
            return _respond(start_response, HTTPStatus.SERVICE_UNAVAILABLE, {})  # nobody reads it

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        self._check(environ)
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path in (COMPLETIONS, RESPONSES):
            _expect(method, "POST")
            return self._complete(environ, start_response)
        if path == MODELS or path.startswith(f"{MODELS}/"):
            _expect(method, "GET")
            return _respond(start_response, HTTPStatus.OK, self._models(path.removeprefix(MODELS).strip("/")))
        raise Refusal(HTTPStatus.NOT_FOUND, f"there are {COMPLETIONS}, {RESPONSES} and {MODELS}, and nothing else")

    def _check(self, environ: Mapping[str, Any]) -> None:
        """Raises Refusal for a request that is not allowed."""
        if self._hosts is not None and not allows_host(environ.get("HTTP_HOST", ""), self._hosts):
            raise Refusal(HTTPStatus.FORBIDDEN, "not known by this name: add it to http.hosts")
        if access.is_cross_site(environ):
            raise Refusal(HTTPStatus.FORBIDDEN, "not for other sites")
        if self._token is not None and not access.is_authorized(self._token, environ.get("HTTP_AUTHORIZATION", "")):
            message = "the token of http.token_file is required, as the API key (Authorization: Bearer …)"
            raise Refusal(HTTPStatus.UNAUTHORIZED, message, "invalid_api_key")

    def _models(self, name: str) -> dict[str, Any]:
        models = {
            one: {"id": one, "object": "model", "created": 0, "owned_by": "edge-agent"} for one in self._pipelines()
        }
        if not name:
            return {"object": "list", "data": list(models.values())}
        self._pipeline(name)
        return models[name]

    def _pipeline(self, name: str) -> TextPipeline:
        pipelines = self._pipelines()
        if name not in pipelines:
            message = f"there is no model {name!r}; there are: {', '.join(pipelines) or 'none'}"
            raise Refusal(HTTPStatus.NOT_FOUND, message, "model_not_found")
        return pipelines[name]

    def _complete(self, environ: Mapping[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        # Else a form of another site could make requests: browsers ask first for other types only.
        if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != JSON:
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the Content-Type must be {JSON}")
        body, gone = environ["wsgi.input"].read(), environ["waitress.client_disconnected"]
        if environ["PATH_INFO"] == RESPONSES:
            request: ChatRequest | ResponseRequest = read_response_request(body)
            exchange = Exchange(self._pipeline(request.model), request.for_pipeline(), "resp_", gone)
            pieces: Pieces = responses.Events(exchange.id, request.model)
            whole = responses.whole
        else:
            chat = request = read_chat(body)
            exchange = Exchange(self._pipeline(chat.model), chat.for_pipeline(), "chatcmpl-", gone)
            pieces = completions.Chunks(exchange.id, chat.model, with_usage=chat.stream_options.include_usage)
            whole = completions.completion
        event = exchange.next()  # before the status is sent: a refusal has one of its own
        if request.stream:
            start_response("200 OK", [*HEADERS, ("Content-Type", f"{EVENTS}; charset=utf-8")])
            return _stream(exchange, pieces, event)
        while isinstance(event, str):
            event = exchange.next()
        return _respond(start_response, HTTPStatus.OK, whole(exchange.id, request.model, event))


def with_chats(app: App, chats: Chats) -> App:
    """An application that leaves requests to language models to `chats`."""

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        return (chats if environ["PATH_INFO"].startswith(CHATS) else app)(environ, start_response)

    return answer


def _stream(exchange: Exchange, pieces: Pieces, event: str | Mapping[str, Any]) -> Iterator[bytes]:
    """The answer in pieces. When the client has gone, waitress closes this, and the request is cancelled."""
    try:
        yield pieces.first()
        is_call, begun = False, False
        while isinstance(event, str):
            if event and not begun:  # with functions, an answer that begins so is a call, which comes as a whole
                is_call, begun = exchange.may_call and event.startswith("{"), True
            if event and not is_call:
                yield pieces.piece(event)
            event = exchange.next()
        yield pieces.last(event)
    except EdgeAgentError as error:
        yield pieces.error(_described(error)[1]["error"])
    except ClientGoneError:
        return
    finally:
        exchange.cancel()


def _expect(method: str, expected: str) -> None:
    if method != expected:
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"the method must be {expected}")


def _described(error: EdgeAgentError) -> tuple[HTTPStatus, dict[str, Any]]:
    status, kind = next((status, kind) for one, status, kind in ERRORS if isinstance(error, one))
    return status, _error(str(error), kind, None)


def _error(message: str, kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _respond(start_response: StartResponse, status: HTTPStatus, document: Mapping[str, Any]) -> list[bytes]:
    body = json.dumps(document).encode()
    headers = [*HEADERS, ("Content-Type", JSON), ("Content-Length", str(len(body)))]
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append(("WWW-Authenticate", 'Bearer realm="edge-agent"'))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers.append(("Retry-After", RETRY_AFTER))
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]
