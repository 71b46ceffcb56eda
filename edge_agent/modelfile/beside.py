"""What lies beside a model file: label files, and the metadata that training and export tools write there.

`KINDS` is the table of the files that are known. Each has a bound on its size and a small parser. What a file states is
used only where neither the configuration nor the model file states it, and never against the model's own numbers.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from edge_agent.errors import ModelError
from edge_agent.modelfile import gate
from edge_agent.modelfile.facts import embedded_facts, embedded_names
from edge_agent.modelfile.labels import MAX_FILE_SIZE, parse_labels
from edge_agent.modelfile.normalization import IMAGENET, RAW, SIGNED, UNIT, Normalization
from edge_agent.system.text import TextError, parse_json, read_text

MAX_METADATA = 4_000_000
MAX_YAML = 256 * 1024
MAX_LABELS = 100_000
MAX_LABEL = 1000
# Folders in which exporters put an ONNX model, the files that describe it one above.
_SUBFOLDERS = ("onnx", "tflite")


class Labels(NamedTuple):
    """A list of labels, and where it is from."""

    where: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What one file states.

    Attributes:
        labels: of the classes, in their order.
        label_file: name of a label file beside this one.
        normalization: mean, std, one value each or one a channel, red first: x becomes (x - mean) / std, with pixels
            from 0 to 255.
        resize: how a picture is fitted to the input.
        crop: for `center_crop`: fraction of the shorter side that is kept.
        color: channel order.
        facts: of an Ultralytics export, as `facts.embedded_facts` gives them.
    """

    labels: tuple[str, ...] | None = None
    label_file: str = ""
    normalization: Normalization | None = None
    resize: Literal["stretch", "letterbox", "center_crop"] | None = None
    crop: float | None = None
    color: Literal["rgb", "bgr"] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Beside:
    """What all files beside a model state; of each fact, what the first file in the order of `KINDS` states.

    Attributes:
        labels: all lists, the first the most specific.
        found: the other facts.
        sources: field of `found` -> name of the file.
        notes: a sentence for each file that can't be read.
    """

    labels: tuple[Labels, ...] = ()
    found: Found = Found()
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        tool: what writes it.
        names: of the file; `{stem}` is the name of the model file without its ending.
        limit: of its size, in bytes.
        parse: what its text states. Raises ValueError, KeyError or TypeError where it is not such a file.
        beside: name of the model file beside which alone it means this; "" for any.
    """

    tool: str
    names: tuple[str, ...]
    limit: int
    parse: Callable[[str], Found]
    beside: str = ""


class _Loader(yaml.SafeLoader):
    """Without aliases, by which a small text becomes a document of any size."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases")
        return super().compose_node(parent, index)


def look(model: Path) -> Beside:
    """Reads what lies beside a model file.

    Args:
        model: the model file.
    """
    labels: list[Labels] = []
    found, sources, notes = Found(), dict[str, str](), list[str]()
    for kind, path in _files(model):
        where = f"{path.name} beside the file" if path.parent == model.parent else f"{path.name} in the folder above it"
        try:
            one = kind.parse(read_text(gate.inside(path.parent, path.name), kind.limit))
            if one.label_file:
                named = gate.inside(path.parent, one.label_file)
                one = replace(one, labels=parse_labels(read_text(named, MAX_FILE_SIZE)))
                where = f"{one.label_file}, which {path.name} names"
        except (ModelError, TextError, OSError) as error:
            notes.append(f"{where}: not used: {getattr(error, 'strerror', None) or error}")
            continue
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
            continue  # another file of that name, of which there are many (config.json, data.yaml)
        if one.labels is not None and _are_labels(one.labels):
            labels.append(Labels(where, one.labels))
        for name in ("normalization", "resize", "color", "facts"):
            if getattr(one, name) and not getattr(found, name):
                found = replace(found, **{name: getattr(one, name)})
                sources[name] = where
                if name == "resize":
                    found = replace(found, crop=one.crop)
    return Beside(tuple(labels), found, sources, tuple(notes))


def _files(model: Path) -> Iterator[tuple[Kind, Path]]:
    folders = [model.parent, *([model.parent.parent] if model.parent.name in _SUBFOLDERS else [])]
    for kind in KINDS:
        if kind.beside not in ("", model.name):
            continue
        for folder in folders:
            for name in kind.names:
                path = folder / name.format(stem=model.stem)
                if path.is_file() and path != model:
                    yield kind, path
                    break


def _are_labels(labels: Sequence[str]) -> bool:
    return 0 < len(labels) <= MAX_LABELS and all(len(label) <= MAX_LABEL for label in labels)


def _label_file(text: str) -> Found:
    return Found(labels=parse_labels(text))


def _names(value: object) -> tuple[str, ...] | None:
    """Labels from a list, or from a mapping of class numbers, without gaps."""
    return embedded_names(json.dumps(value))


def _yaml(text: str) -> dict[str, Any]:
    document = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    if not isinstance(document, dict):
        raise TypeError
    return document


def _json(text: str) -> dict[str, Any]:
    document = parse_json(text)
    if not isinstance(document, dict):
        raise TypeError
    return document


def _ultralytics(text: str) -> Found:
    """https://github.com/ultralytics/ultralytics/blob/main/ultralytics/engine/exporter.py: `metadata`."""
    document = _yaml(text)
    if not {"stride", "task", "names"} <= document.keys():
        raise KeyError
    facts = embedded_facts(json.dumps({str(key): value for key, value in document.items()}, default=str))
    return Found(labels=_names(document["names"]), facts=facts)


def _data_set(text: str) -> Found:
    """A description of a data set, as Roboflow and Ultralytics have it: https://docs.ultralytics.com/datasets/detect/."""
    document = _yaml(text)
    labels = _names(document["names"])
    if labels is None or document.get("nc", len(labels)) != len(labels):
        raise ValueError
    return Found(labels=labels)


def _custom_vision(text: str) -> Found:
    """The properties of a model exported from Azure Custom Vision.

    Only what is unambiguous: a normalization that changes nothing else than the range, and a plain stretch.
    """
    document = _json(text)
    stretches = document["CustomVision.Preprocess.ResizeMethod"] == "Stretch"
    pixels = {"Normalized_0_1": UNIT, "NominalRange_0_255": RAW}.get(document.get("Image.NominalPixelRange", ""))
    mean, std = (parse_json(document[f"CustomVision.Preprocess.Normalize{key}"]) for key in ("Mean", "Std"))
    plain = not any(map(float, mean)) and all(float(value) == 1 for value in std)
    color: dict[str, Literal["rgb", "bgr"]] = {"Rgb8": "rgb", "Bgr8": "bgr"}
    return Found(
        normalization=pixels if plain else None,
        resize="stretch" if stretches else None,
        color=color.get(document.get("Image.BitmapPixelFormat", "")),
    )


def _custom_vision_manifest(text: str) -> Found:
    """`cvexport.manifest`, which names the files of an export of Azure Custom Vision."""
    document = _json(text)
    if "ModelFileName" not in document:
        raise KeyError
    return Found(label_file=str(document["LabelFileName"]))


_EDGE_IMPULSE_RESIZES: dict[str, Literal["stretch", "letterbox", "center_crop"]] = {
    "EI_CLASSIFIER_RESIZE_SQUASH": "stretch",
    "EI_CLASSIFIER_RESIZE_FIT_SHORTEST": "center_crop",
    "squash": "stretch",
    "fit-shortest": "center_crop",
}
_EDGE_IMPULSE_SCALES = {"NONE": UNIT, "0_255": RAW, "TORCH": IMAGENET, "MIN1_1": SIGNED}


def _edge_impulse_header(text: str) -> Found:
    """`model-parameters/model_metadata.h` and `model_variables.h` of a C++ library of Edge Impulse.

    The names: https://github.com/edgeimpulse/inferencing-sdk-cpp/blob/master/classifier/ei_model_types.h. `FIT_LONGEST`
    pads with black on both sides, which `letterbox` does not.
    """
    lines = (line.split() for line in text.splitlines() if line.startswith("#define EI_CLASSIFIER_"))
    defined = {line[1].removeprefix("EI_CLASSIFIER_"): line[2] for line in lines if len(line) > 2}  # noqa: PLR2004 - name and value
    labels = None
    _, found, rest = text.partition("ei_classifier_inferencing_categories")
    if found:
        listed = rest.partition("{")[2].partition("};")[0]
        labels = _names(parse_json(f"[{listed.strip().rstrip(',')}]"))
    elif not defined:
        raise ValueError
    takes_pictures = defined.get("SENSOR") == "EI_CLASSIFIER_SENSOR_CAMERA"
    scale = defined.get("IMAGE_SCALING", "").removeprefix("EI_CLASSIFIER_IMAGE_SCALING_")
    return Found(
        labels=labels,
        normalization=_EDGE_IMPULSE_SCALES.get(scale) if takes_pictures else None,
        resize=_EDGE_IMPULSE_RESIZES.get(defined.get("RESIZE_MODE", "")) if takes_pictures else None,
    )


def _edge_impulse_json(text: str) -> Found:
    """The `model_parameters` that a model of Edge Impulse answers with (`hello` in its protocol).

    https://docs.edgeimpulse.com/tools/libraries/sdks/inference/linux
    """
    document = _json(text)
    parameters = document.get("model_parameters", document)
    if "model_type" not in parameters:
        raise KeyError
    resize = _EDGE_IMPULSE_RESIZES.get(parameters.get("image_resize_mode", ""))
    return Found(labels=_names(parameters["labels"]), resize=resize if parameters.get("image_input_width") else None)


def _hugging_face(text: str) -> Found:
    """`config.json`: of a model of Transformers (`id2label`), or of timm (`pretrained_cfg`, `label_names`)."""
    document = _json(text)
    if "architecture" in document and isinstance(settings := document.get("pretrained_cfg", document), dict):
        return replace(_timm(settings), labels=_timm_labels(document))
    labels = _names(document["id2label"])
    # What Transformers fills in where nothing is known.
    if labels is None or all(label == f"LABEL_{number}" for number, label in enumerate(labels)):
        raise ValueError
    return Found(labels=labels)


def _timm(settings: Mapping[str, Any]) -> Found:
    """https://huggingface.co/docs/timm/main/en/hf_hub: mean and std of pixels from 0 to 1, part that is kept."""
    normalization = resize = None
    if "mean" in settings and "std" in settings:
        normalization = _scaled(settings["mean"], settings["std"], 1 / 255)
    if "crop_pct" in settings:
        mode = settings.get("crop_mode") or "center"
        resize = {"center": "center_crop", "squash": "stretch"}.get(mode)
    crop = float(settings["crop_pct"]) if resize == "center_crop" else None
    return Found(normalization=normalization, resize=resize, crop=_fraction(crop))  # type: ignore[arg-type]  # of the two


def _timm_labels(document: Mapping[str, Any]) -> tuple[str, ...] | None:
    names = document.get("label_names")
    if names is None:
        return None
    about = document.get("label_descriptions")
    return _names([about.get(name, name) if isinstance(about, dict) else name for name in names])


def _preprocessor(text: str) -> Found:
    """`preprocessor_config.json` of a model of Transformers.

    https://huggingface.co/docs/transformers/main/en/main_classes/image_processor
    """
    document = _json(text)
    if not ({"image_mean", "do_normalize", "do_rescale"} & document.keys()):
        raise KeyError
    factor = document.get("rescale_factor", 1 / 255) if document.get("do_rescale", True) else 1.0
    if document.get("do_normalize", "image_mean" in document):
        normalization = _scaled(document["image_mean"], document["image_std"], factor)
    else:
        normalization = _scaled([0.0], [1.0], factor)
    resize, crop = _transformers_resize(document)
    swaps = document.get("do_flip_channel_order")
    return Found(normalization=normalization, resize=resize, crop=crop, color="bgr" if swaps else None)


def _transformers_resize(
    document: Mapping[str, Any],
) -> tuple[Literal["stretch", "center_crop"] | None, float | None]:
    size = document.get("size")
    sides: dict[str, Any] = size if isinstance(size, dict) else {"shortest_edge": size}
    shortest = sides.get("shortest_edge")
    if not document.get("do_resize", True):
        return None, None
    if document.get("do_center_crop"):
        edge = shortest or min(sides["height"], sides["width"])
        kept = document.get("crop_size", edge)
        kept = min(kept["height"], kept["width"]) if isinstance(kept, dict) else kept
        crop = _fraction(kept / edge)
        return ("center_crop", crop) if crop else (None, None)
    if shortest and "crop_pct" in document:
        # ConvNeXT: below 384 pixels, the shorter side is resized to shortest / crop_pct.
        cropped = shortest < 384  # noqa: PLR2004 - as its image processor has it
        return ("center_crop", _fraction(document["crop_pct"])) if cropped else ("stretch", None)
    return ("stretch", None) if "height" in sides else (None, None)


def _scaled(mean: Sequence[float], std: Sequence[float], factor: float) -> Normalization:
    """Mean and std for pixels from 0 to 255, where the stated ones are for pixels times a factor."""
    means, stds = (tuple(round(float(value) / factor, 4) for value in values) for values in (mean, std))
    if len(means) not in (1, 3) or len(stds) not in (1, 3) or min(stds) <= 0:
        raise ValueError
    return means, stds


def _fraction(value: float | None) -> float | None:
    return value if value is not None and 0.1 <= value <= 1 else None  # noqa: PLR2004 - as the setting `crop`


def _teachable_machine(text: str) -> Found:
    """`labels.txt` beside `model_unquant.tflite`: the name that Teachable Machine gives to its float export.

    Its classes are numbered from 0 (`0 Cat`), pixels go in from -1 to 1, of the middle of a picture:
    https://github.com/googlecreativelab/teachablemachine-community/tree/master/snippets/markdown/image.
    """
    if not text.lstrip("\ufeff \r\n").startswith("0 "):
        raise ValueError
    return Found(labels=parse_labels(text), normalization=SIGNED, resize="center_crop")


KINDS: tuple[Kind, ...] = (
    Kind("Teachable Machine", ("labels.txt",), MAX_FILE_SIZE, _teachable_machine, "model_unquant.tflite"),
    Kind("a label file", ("{stem}_labels.txt", "{stem}.labels.txt", "{stem}.names"), MAX_FILE_SIZE, _label_file),
    Kind("Ultralytics", ("metadata.yaml",), MAX_YAML, _ultralytics),
    Kind("Azure Custom Vision", ("metadata_properties.json",), MAX_METADATA, _custom_vision),
    Kind("Azure Custom Vision", ("cvexport.manifest",), MAX_METADATA, _custom_vision_manifest),
    Kind("Edge Impulse", ("model_metadata.h",), MAX_METADATA, _edge_impulse_header),
    Kind("Edge Impulse", ("model_variables.h",), MAX_METADATA, _edge_impulse_header),
    Kind("Edge Impulse", ("model_parameters.json", "model_info.json"), MAX_METADATA, _edge_impulse_json),
    Kind("Transformers", ("preprocessor_config.json",), MAX_METADATA, _preprocessor),
    Kind("Transformers or timm", ("config.json",), MAX_METADATA, _hugging_face),
    Kind("a label file", ("labels.txt", "dict.txt", "classes.txt"), MAX_FILE_SIZE, _label_file),
    Kind("PaddleOCR", ("{stem}_dict.txt", "en_dict.txt", "ppocr_keys_v1.txt"), MAX_FILE_SIZE, _label_file),
    Kind("Darknet", ("classes.names", "obj.names", "coco.names"), MAX_FILE_SIZE, _label_file),
    Kind("Roboflow or Ultralytics", ("data.yaml",), MAX_YAML, _data_set),
)
