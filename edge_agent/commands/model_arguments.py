"""The arguments that name a model, and the settings that they become."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.argument_types import between, sides

if TYPE_CHECKING:
    from edge_agent.settings import Model

MODEL = "a .tflite or .onnx file, a bundle (folder or .zip), or a name from the registry"


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model, options for what its file does not show, and --json."""
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("--labels", type=Path, metavar="FILE", help="one label a line; `none`: class numbers only")
    parser.add_argument(
        "--normalize",
        choices=("unit", "signed", "raw", "imagenet"),
        help="range of the pixel values: 0..1, -1..1, 0..255, or as for ImageNet; default: as the file states",
    )
    parser.add_argument(
        "--resize", choices=("stretch", "letterbox", "center_crop"), help="how a picture is fitted to its input"
    )
    parser.add_argument(
        "--crop", type=between(0.1, 1.0), metavar="PART", help="part of the shorter side that center_crop keeps: 0.875"
    )
    parser.add_argument(
        "--size", type=sides, metavar="WxH", help="of its input in pixels, where the model leaves it open: 640x480"
    )
    parser.add_argument("--color", choices=("rgb", "bgr", "gray"), help="channel order of its input")
    parser.add_argument("--layout", choices=("nhwc", "nchw"), help="order of the axes of its input")
    parser.add_argument(
        "--output", choices=("probabilities", "logits", "sigmoid"), help="what a classifier's scores are"
    )
    parser.add_argument("--decoder", metavar="NAME", help="how its outputs are decoded, if the file does not show it")
    parser.add_argument("--anchors", type=Path, metavar="FILE", help="anchors of a detector, if the file lacks them")
    parser.add_argument(
        "--input", choices=("image", "series", "audio"), help="what goes in, if the file does not show it"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def model_settings(args: argparse.Namespace) -> "Model":
    """The settings of the model that the arguments state."""
    from edge_agent import settings
    from edge_agent.settings.series import Input

    keys = ("size", "normalize", "resize", "crop", "color", "layout")
    preprocess = settings.Preprocess(**{key: value for key in keys if (value := getattr(args, key)) is not None})
    return settings.Model(
        path=Path(args.model),
        labels=args.labels,
        decoder=args.decoder,
        anchors=args.anchors,
        output=args.output,
        preprocess=preprocess,
        input=args.input and Input(kind=args.input),
    )
