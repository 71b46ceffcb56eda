"""What a pipeline states that does not go with text: each with its key, and a sentence without the name of the file."""

from collections.abc import Iterator

from edge_agent import settings
from edge_agent.settings.streams import CommandSource
from edge_agent.settings.text import Text

Misfit = tuple[tuple[str, ...], str]

READINGS = ("jsonl", "csv")
OF_PREDICTIONS = ("top_k", "min_confidence", "regions", "filters", "tracking", "snapshot")


def without_language_model(pipeline: settings.Pipeline) -> Iterator[Misfit]:
    """For a pipeline whose model is none."""
    if pipeline.text != Text():
        yield ("text",), f"is for language models, and {pipeline.model} is none"


def with_language_model(pipeline: settings.Pipeline, parent: str, parent_task: str) -> Iterator[Misfit]:
    """For a pipeline whose model is one.

    Args:
        pipeline: its settings.
        parent: the pipeline that it follows; empty if it follows none.
        parent_task: what the model of that does.
    """
    source = pipeline.source
    measures = source.type in ("serial", "iio") or (isinstance(source, CommandSource) and source.format in READINGS)
    if not measures and source.type not in ("mqtt", "pipeline"):
        yield ("source",), f"{pipeline.model} is a language model: it takes requests from mqtt, pipeline, or readings"
    if isinstance(source, CommandSource) and measures and source.restart == "never":
        yield ("source", "restart"), "never: a question is asked every min_interval, so the readings must go on"
    if parent_task == "text":
        yield ("source", "name"), f"{parent} makes no predictions, its task is text"
    if (parent or measures) and pipeline.text.prompt is None:
        yield ("text",), f"prompt is required: it says what to ask about {'predictions' if parent else 'readings'}"
    if source.type == "mqtt" and pipeline.text.prompt is not None:
        yield ("text", "prompt"), "is for predictions and readings; from mqtt come requests"
    default = settings.Pipeline(source=pipeline.source, model=pipeline.model)
    for key in OF_PREDICTIONS:
        if getattr(pipeline, key) != getattr(default, key):
            yield (key,), f"is for predictions, and {pipeline.model} gives text"
    if pipeline.publish.on_change or pipeline.publish.min_interval:
        yield ("publish",), "on_change and min_interval are for predictions: every answer is published"
