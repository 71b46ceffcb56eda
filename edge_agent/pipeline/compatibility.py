"""Checks of pipelines against their models: options that make no sense for what the model takes and gives."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Literal

from edge_agent import settings
from edge_agent.config.loader import Config
from edge_agent.errors import ConfigError
from edge_agent.language.intents import vocabulary
from edge_agent.models.io_spec import CLASSIFICATION
from edge_agent.models.language import LanguageModel
from edge_agent.models.loading import AnyModel
from edge_agent.models.model import Model
from edge_agent.models.stages import SampleModel
from edge_agent.pipeline import keep_compatibility as keeping
from edge_agent.pipeline.keep_compatibility import Incompatibility
from edge_agent.pipeline.tasks import TASKS_WITH_BOXES, TASKS_WITH_CONFIDENCE, TASKS_WITH_OBJECTS
from edge_agent.postprocess.filters import unknown_labels, unknown_names
from edge_agent.postprocess.thresholds import ANOMALY, NORMAL
from edge_agent.preprocess.sensor import OfSensor
from edge_agent.settings.intents import Intents
from edge_agent.settings.streams import CommandSource
from edge_agent.settings.text import Text
from edge_agent.timeseries.cutting import channel_count
from edge_agent.timeseries.numbers import SeriesPreprocess

SOURCES_OF_PICTURES = ("camera", "ai_camera", "video", "images", "pipeline")
SOURCES_OF_READINGS = ("serial", "iio", "audio", "microphone")
FORMATS_OF_READINGS = ("jsonl", "csv")
OPTIONS_OF_PREDICTIONS = (
    "top_k", "min_confidence", "regions", "filters", "tracking", "snapshot", "record", "actions",
)  # fmt: skip

# What is replaced in a prompt, by the kind of source.
_ALWAYS = ("pipeline", "device_id", "time")
FILLED_IN = {"pipeline": ("predictions", "labels", *_ALWAYS), "readings": ("readings", *_ALWAYS)}
ALL_FILLED_IN = {name for names in FILLED_IN.values() for name in names}


def check(config: Config, models: Mapping[str, AnyModel]) -> None:
    """Checks every pipeline of a configuration against its model.

    Args:
        config: the configuration.
        models: its models, loaded.

    Raises:
        ConfigError: with every incompatibility that was found.
    """
    problems = []
    pipelines = config.settings.pipelines
    for name, pipeline in pipelines.items():
        parent = pipeline.source.name if isinstance(pipeline.source, settings.PipelineSource) else ""
        parent_task = models[pipelines[parent].model_name].task if parent else ""
        model = models[pipeline.model_name]
        found = (
            (*_with_language_model(pipeline, parent, parent_task), *_words(pipeline, model))
            if isinstance(model, LanguageModel)
            else _with_model(pipeline, model, parent, parent_task)
        )
        all_of_it = (
            *found,
            *_names(pipeline, models, pipelines),
            *_with_state_inside(name, pipeline, model, pipelines),
        )
        problems += [f"{config.where('pipelines', name, *key)}: {problem}" for key, problem in all_of_it]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _names(
    pipeline: settings.Pipeline, models: Mapping[str, AnyModel], pipelines: Mapping[str, settings.Pipeline]
) -> Iterator[Incompatibility]:
    """Names in a pipeline's settings that nothing bears: labels and channels."""
    source, model = pipeline.source, models[pipeline.model_name]
    if isinstance(model, Model):
        for key, problem in unknown_labels(pipeline.filters, _labels(model)):
            yield ("filters", key), problem
        yield from _channels(pipeline, model)
    yield from _actions(pipeline, _labels(model))
    if isinstance(source, settings.PipelineSource):
        parent = pipelines[source.name]
        begin = f"{source.name} finds no"
        known = _labels(models[parent.model_name])
        wanted = [label for label in source.labels if not parent.filters.labels or label in parent.filters.labels]
        yield from ((("source", "labels"), text) for text in unknown_names(wanted, known, begin))
        filtered = [label for label in source.labels if label not in wanted]
        begin = f"the filters of {source.name} let nothing through that is called"
        yield from ((("source", "labels"), text) for text in unknown_names(filtered, parent.filters.labels, begin))


def _actions(pipeline: settings.Pipeline, known: Sequence[str]) -> Iterator[Incompatibility]:
    """Actions for what a pipeline never publishes: labels, events, zones and lines."""
    filters, kinds = pipeline.filters, pipeline.event_kinds
    for number, when in enumerate(action.when for action in pipeline.actions):
        key: tuple[str | int, ...] = ("actions", number, "when")
        for text in unknown_names(when.labels, filters.labels or known, "nothing is published that is called"):
            yield (*key, "labels"), text
        if when.event is not None and when.event not in kinds:
            given = f"its events are {', '.join(sorted(kinds))}" if kinds else "it has no events"
            yield (*key, "event"), f"{when.event} never comes from this pipeline: {given}"
        for name, stated, there in (("zone", when.zone, filters.zones), ("line", when.line, pipeline.lines)):
            if stated is not None and stated not in there:
                yield (*key, name), f"there is no {name} {stated!r}{': there are ' + ', '.join(there) if there else ''}"


def _labels(model: AnyModel) -> Sequence[str]:
    """The labels that a model gives; empty where it has none, or is not known to have them."""
    return (NORMAL, ANOMALY) if model.task == ANOMALY else model.labels


def _channels(pipeline: settings.Pipeline, model: Model) -> Iterator[Incompatibility]:
    """The channels that a model takes and a source does not give."""
    source, preprocess = pipeline.source, model.preprocess
    given = getattr(source, "channels", None)
    if not isinstance(preprocess, SeriesPreprocess) or not isinstance(given, tuple):
        return
    begin = f"{pipeline.model_name} takes the channels {', '.join(preprocess.input.channels)}, and here is no"
    yield from ((("source", "channels"), text) for text in unknown_names(preprocess.input.channels, given, begin))
    count = channel_count(preprocess)
    if not preprocess.input.channels and preprocess.input.kind == "series" and len(given) != count:
        yield ("source", "channels"), f"{pipeline.model_name} takes {count} channel(s), and here are {len(given)}"


def _with_state_inside(
    name: str, pipeline: settings.Pipeline, model: AnyModel, pipelines: Mapping[str, settings.Pipeline]
) -> Iterator[Incompatibility]:
    """The incompatibilities of a pipeline whose model keeps its state inside of its file: it can serve one stream."""
    if not isinstance(model, Model) or not model.keeps_state:
        return
    why = f"{pipeline.model_name} keeps its state inside of its file"
    first = next(other for other, options in pipelines.items() if options.model_name == pipeline.model_name)
    if first != name:
        yield ("model",), f"{why}, and serves {first} already: state the file under another name in `models` as well"
    if len(pipeline.regions) > 1:
        yield ("regions",), f"{why}: it takes one region"


def _with_language_model(pipeline: settings.Pipeline, parent: str, parent_task: str) -> Iterator[Incompatibility]:
    """The incompatibilities of a pipeline whose model is a language model.

    Args:
        pipeline: its settings.
        parent: the pipeline whose predictions it takes; empty if it has a source of its own.
        parent_task: the task of that pipeline's model.
    """
    source = pipeline.source
    measures = source.type in ("serial", "iio") or (
        isinstance(source, CommandSource) and source.format in FORMATS_OF_READINGS
    )
    if not measures and source.type not in ("mqtt", "pipeline"):
        yield (
            ("source",),
            f"{pipeline.model_name} is a language model: it takes requests from mqtt, pipeline, or readings",
        )
    if isinstance(source, CommandSource) and measures and source.restart == "never":
        yield ("source", "restart"), "never: a question is asked every min_interval, so the readings must go on"
    if parent_task == "text":
        yield ("source", "name"), f"{parent} makes no predictions, its task is text"
    if (parent or measures) and pipeline.text.prompt is None:
        yield ("text",), f"prompt is required: it says what to ask about {'predictions' if parent else 'readings'}"
    if source.type == "mqtt" and pipeline.text.prompt is not None:
        yield ("text", "prompt"), "is for predictions and readings; from mqtt come requests"
    if source.type != "mqtt":
        yield from _without_requests(pipeline.text)
    default = settings.Pipeline(source=pipeline.source, model=pipeline.model)
    for key in OPTIONS_OF_PREDICTIONS:
        if getattr(pipeline, key) != getattr(default, key):
            yield (key,), f"is for predictions, and {pipeline.model_name} gives text"
    if pipeline.publish.on_change or pipeline.publish.min_interval:
        yield ("publish",), "on_change and min_interval are for predictions: every answer is published"


def _without_requests(text: Text) -> Iterator[Incompatibility]:
    if text.openai:
        yield ("text", "openai"), "is for requests, and these come from mqtt"
    if any(tool.mqtt.confirm for tool in text.tools.values()):
        yield ("text", "tools"), "confirm is heard by the source mqtt only"


def _words(pipeline: settings.Pipeline, model: LanguageModel) -> Iterator[Incompatibility]:
    """What a language model can't do with a pipeline's words, and what must not be kept of them."""
    yield from keeping.of_answers(pipeline)
    if pipeline.text.system and model.system_problem:
        yield ("text", "system"), f"{model.system_problem}: leave it out, and begin the prompts with it"
    if pipeline.text.intents != Intents() and vocabulary.read(model.source.folder) is None:
        yield ("text", "intents"), f"{pipeline.model_name} recognizes no commands: the bundle `commands` does"
    if pipeline.text.options.json_schema is not None:
        from edge_agent.language.constraint import schema_problem  # loads a library

        if wrong := schema_problem(pipeline.text.options.json_schema):
            yield ("text", "options", "json_schema"), wrong
    prompt = pipeline.text.prompt
    fitting = FILLED_IN["pipeline" if pipeline.source.type == "pipeline" else "readings"]
    for name in _placeholders(prompt or ""):
        near = get_close_matches(name, fitting, 1)
        if name not in fitting and (name in ALL_FILLED_IN or near):
            known = " ".join(f"{{{one}}}" for one in fitting)
            yield ("text", "prompt"), f"{{{name}}} is not replaced here, only {known} are"


def _placeholders(prompt: str) -> Iterator[str]:
    """The words in braces; other braces, as those of JSON, are text."""
    for part in prompt.split("{")[1:]:
        name, brace, _ = part.partition("}")
        if brace and name.isidentifier():
            yield name


def _with_model(
    pipeline: settings.Pipeline, model: SampleModel, parent: str, parent_task: str
) -> Iterator[Incompatibility]:
    """The same for a pipeline whose model takes pictures, readings or sound."""
    name, task, options = pipeline.model_name, model.task, pipeline
    pictures, gives = model.takes_pictures, output_of(options.source)
    in_sensor = isinstance(model.preprocess, OfSensor)
    if options.text != Text():
        yield ("text",), f"is for language models, and {name} is none"
    if parent and parent_task not in TASKS_WITH_BOXES:
        yield ("source", "name"), f"{parent} finds no boxes, its task is {parent_task}"
    hysteresis = options.publish.hysteresis
    learns = isinstance(options.model, settings.Statistics)
    sounds = options.source.type in ("microphone", "audio") or getattr(options.source, "format", "") == "pcm"
    # What is stated, the option, whether it fits, and why not.
    table: tuple[tuple[object, tuple[str, ...], bool, str], ...] = (
        (gives == "pictures", ("source",), pictures, f"gives pictures, {name} takes none"),
        (gives == "readings", ("source",), not pictures, f"gives readings, {name} takes pictures"),
        (
            options.source.type == "ai_camera",
            ("source", "model"),
            in_sensor,
            f"{name} does not run in the camera: state a .rpk file",
        ),
        (
            in_sensor,
            ("source",),
            options.source.type == "ai_camera",
            f"{name} runs in the AI Camera only: state type: ai_camera",
        ),
        (options.regions and in_sensor, ("regions",), False, "is not for the AI Camera, whose model sees all of it"),
        (options.regions, ("regions",), pictures, f"is for pictures, {name} takes none"),
        (options.filters.zones, ("filters", "zones"), pictures, f"is for pictures, {name} takes none"),
        (options.snapshot, ("snapshot",), pictures, f"is for pictures, {name} takes none"),
        (options.object_pictures, ("object_pictures",), pictures, f"is for pictures, {name} takes none"),
        (options.gate, ("gate",), pictures, f"is for pictures, {name} takes none"),
        (options.window, ("window",), not pictures, f"is for readings and sound, {name} takes pictures"),
        (options.smoothing, ("smoothing",), not pictures, f"is for readings and sound, {name} takes pictures"),
        (options.smoothing, ("smoothing",), task == CLASSIFICATION, f"is for classification, {name} does {task}"),
        (options.anomaly, ("anomaly",), task == ANOMALY, f"is for scores of anomalies, the task of {name} is {task}"),
        (learns and sounds, ("source",), False, "gives sound, and statistics are for readings of sensors"),
        (learns and options.window, ("window",), False, "is for models: state `every` of the detector"),
        (learns and options.record, ("record",), False, "is for inputs of models"),
        (learns and options.anomaly, ("anomaly",), False, "is for models: state `deviations` of the detector"),
        (
            getattr(options.source, "fields", None),
            ("source", "fields"),
            not pictures,
            f"is for readings, {name} takes pictures",
        ),
        (
            hysteresis >= 1,
            ("publish", "hysteresis"),
            task not in TASKS_WITH_CONFIDENCE,
            "no confidence rises by 1 or more",
        ),
        (options.meter, ("meter",), task in (CLASSIFICATION, "detection"), f"{name} finds no digits: it does {task}"),
        (
            options.meter is not None and task == CLASSIFICATION,
            ("meter",),
            options.meter is not None and len(options.regions) == options.meter.digits,
            "a classifier needs a `box` around the digits, or `regions`, one for each digit",
        ),
        (options.tracking, ("tracking",), task in TASKS_WITH_OBJECTS, f"{name} finds no objects, its task is {task}"),
    )
    yield from ((key, problem) for stated, key, fits, problem in table if stated and not fits)
    if options.keep is not None:
        yield from keeping.of_predictions(options.keep, options, model, _labels(model))
    if options.record is not None:
        yield from keeping.hidden("record", options.record, name, model, _labels(model))


def output_of(source: settings.Source) -> Literal["pictures", "readings", "either"]:
    """What comes out of a source."""
    kind = source.format if isinstance(source, CommandSource) else source.type
    if kind in (*SOURCES_OF_PICTURES, "mjpeg", "raw"):
        return "pictures"
    return "readings" if kind in (*SOURCES_OF_READINGS, *FORMATS_OF_READINGS, "pcm") else "either"
