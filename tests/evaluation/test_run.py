"""Models on labelled data, by the stages that serve: real models, real pictures, sound and readings."""

import contextlib
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.errors import ConfigError, InputError
from edge_agent.evaluation import report
from edge_agent.evaluation.datasets import open_dataset
from edge_agent.evaluation.judging import Classified, Options
from edge_agent.evaluation.judging_pictures import read_mask
from edge_agent.evaluation.judging_values import AnomalyFound, Answered, Regressed
from edge_agent.evaluation.labelled import Dataset, LabelledSample
from edge_agent.evaluation.run import Limits, Run, evaluate, evaluate_language
from edge_agent.models import language
from edge_agent.models import model as models
from edge_agent.models.budget import Budget
from edge_agent.models.language import LanguageSource
from edge_agent.models.model import Model
from edge_agent.models.predictor import PREPARING, WAITING, Predictor
from edge_agent.models.resolve import resolve
from edge_agent.models.shipped import shipped
from edge_agent.preprocess.files import read_file
from edge_agent.preprocess.opencv import cv2
from edge_agent.samples import Prediction, Sample
from tests.evaluation import data


class Watching:
    """Looks on; ends an evaluation after some samples."""

    def __init__(self, most: int = 1_000_000) -> None:
        self.stopping = False
        self._most = most

    def done(self, samples: int) -> None:
        self.stopping = samples >= self._most


def loaded(path: Path, **options: Any) -> Model:
    return models.load("it", settings.Model(path=path, **options), Path.cwd())


def run(model: Model, dataset: Dataset, options: Options | None = None, most: int = 1_000_000) -> Run:
    return evaluate(model, dataset, options or Options(), Limits(), Watching(most), 0)


@pytest.fixture(scope="module")
def digits() -> Model:
    return loaded(shipped("digits"))


@pytest.fixture(scope="module")
def mobilenet(data_dir: Path) -> Model:
    labels = data_dir / "labels" / "coral_imagenet_labels.txt"
    return loaded(data_dir / "classify_tflite" / "mobilenet_v2_1.0_224_quant.tflite", labels=labels)


def test_the_accuracy_is_that_of_the_predictions_one_by_one(digits: Model, tmp_path: Path) -> None:
    data.digits(tmp_path / "digits")
    wrong = tmp_path / "digits" / "8" / "3_seven_segment.png"
    (tmp_path / "digits" / "3" / wrong.name).rename(wrong)
    found = run(digits, open_dataset(tmp_path / "digits"))
    document = report.document(found, "digits", tmp_path)
    predictor = Predictor(digits, 5, 0.0)
    right = [predictor.ask(read_file(one)).predictions[0].label == one.parent.name for one in tmp_path.rglob("*.png")]
    assert document["samples"] == len(right) == 14
    assert document["metrics"]["top1"] == pytest.approx(np.mean(right), abs=1e-4)
    assert np.mean(right) == 13 / 14
    [mistake] = [one for one in found.judge.outcomes if not one.score]
    assert mistake.where == str(wrong)
    assert mistake.found.startswith("3 ")
    assert {"label": "8", "taken_for": "3"}.items() <= document["per_class"][0].items()


def test_labels_of_imagenet_are_matched_by_their_synonyms(mobilenet: Model, data_dir: Path, tmp_path: Path) -> None:
    by_number = run(mobilenet, open_dataset(data.imagenet_csv(tmp_path / "labels.csv", data_dir)))
    found = report.document(by_number, "mobilenet", tmp_path)
    assert found["samples"] == 100
    assert found["metrics"]["top1"] == pytest.approx(0.89, abs=0.03)
    assert found["metrics"]["top5"] == pytest.approx(0.98, abs=0.03)
    low, high = found["interval"]["top1"]
    assert low < found["metrics"]["top1"] < high
    by_name = run(mobilenet, open_dataset(data.imagenet(tmp_path / "folders", data_dir)))
    assert report.document(by_name, "mobilenet", tmp_path)["metrics"] == found["metrics"]


def test_a_label_that_the_model_lacks_is_an_error_and_no_zero(digits: Model, tmp_path: Path) -> None:
    data.digits(tmp_path)
    (tmp_path / "7").rename(tmp_path / "seven")
    with pytest.raises(ConfigError, match="'seven'"):
        run(digits, open_dataset(tmp_path))
    found = run(digits, open_dataset(tmp_path), Options({"seven": "7"}))
    assert report.document(found, "digits", tmp_path)["metrics"]["top1"] == 1
    found = run(digits, open_dataset(tmp_path), Options({"seven": None}))
    assert (len(found.judge.outcomes), found.left_out) == (13, 1)


def test_a_sample_that_cannot_be_used_is_named(digits: Model, tmp_path: Path) -> None:
    data.digits(tmp_path)
    (tmp_path / "7" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = run(digits, open_dataset(tmp_path))
    assert [where for where, _ in found.failures] == [str(tmp_path / "7" / "broken.png")]
    assert len(found.judge.outcomes) == 14


def test_what_has_been_judged_stays_when_it_is_ended_early(digits: Model, tmp_path: Path) -> None:
    found = run(digits, open_dataset(data.digits(tmp_path)), most=5)
    document = report.document(found, "digits", tmp_path)
    assert (document["interrupted"], document["samples"]) == (True, 5)


def test_data_without_what_the_task_needs_is_refused(digits: Model, tmp_path: Path) -> None:
    picture = next((shipped("digits") / "golden").glob("*.png"))
    (tmp_path / "1.png").write_bytes(picture.read_bytes())
    (tmp_path / "labels.csv").write_text("file,label,x1,y1,x2,y2\n1.png,7,0,0,9,9\n")
    with pytest.raises(ConfigError, match="classification"):
        run(digits, open_dataset(tmp_path))


@pytest.fixture(scope="module")
def yolo(data_dir: Path) -> Model:
    return loaded(data_dir / "detect_tflite" / "yolov8n_integer_quant.tflite")


def test_detections_are_judged_as_pycocotools_judges_them(yolo: Model, data_dir: Path, tmp_path: Path) -> None:
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    pictures = [data_dir / "images" / name for name in ("bus.jpg", "dog.jpg", "cat_720p.jpg", "hot_dog.jpg")]
    other = loaded(data_dir / "detect_tflite" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite")
    file = data.coco_of(Predictor(other, 100, 0.4), pictures, tmp_path / "coco.json")
    stated = json.loads(file.read_text())
    numbers = {one["name"]: one["id"] for one in stated["categories"]}
    found = report.document(run(yolo, open_dataset(tmp_path)), "yolo", tmp_path)
    results = [
        data.place(one) | {"image_id": number, "category_id": numbers[one.label], "score": one.confidence}
        for number, picture in enumerate(pictures)
        for one in Predictor(yolo, None, 0.001).ask(read_file(picture)).predictions
        if one.label in numbers
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(file))
        judge = cocoeval.COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert judge.stats[0] > 0.3
    ours = [found["metrics"][key] for key in ("ap", "ap50", "ap75")]
    assert ours == pytest.approx(list(judge.stats[:3]), abs=1e-3)
    assert {row["label"] for row in found["per_class"]} == set(numbers)


def test_a_model_differs_from_another_on_the_samples_that_are_named(
    mobilenet: Model, data_dir: Path, tmp_path: Path
) -> None:
    smaller = loaded(data_dir / "classify_tflite" / "mobilenet_v1_0.25_224_quant.tflite")
    dataset = open_dataset(data.imagenet_csv(tmp_path / "labels.csv", data_dir))
    first, second = run(mobilenet, dataset), run(smaller, dataset)
    compared = report.difference(first, second)
    alone = [report.document(one, "it", tmp_path)["metrics"]["top1"] for one in (first, second)]
    assert compared.metrics["top1"] == pytest.approx(alone[0] - alone[1], abs=1e-3)
    low, high = compared.interval["top1"]
    assert 0 < low < compared.metrics["top1"] < high
    one_right = sum(a.score != b.score for a, b in zip(first.judge.outcomes, second.judge.outcomes, strict=True))
    assert one_right <= len(compared.differing) < 60
    same = report.difference(first, first)
    assert set(same.metrics.values()) == {0}
    assert same.differing == []


def test_recordings_of_sound_are_summed_up_over_their_windows(data_dir: Path, tmp_path: Path) -> None:
    yamnet = loaded(data_dir / "audio" / "yamnet_audio_classifier_with_metadata.tflite")
    (tmp_path / "Speech").mkdir()
    (tmp_path / "Speech" / "1.wav").symlink_to(data_dir / "wav" / "speech.wav")
    found = run(yamnet, open_dataset(tmp_path))
    assert [(one.score, one.found.partition(" ")[0]) for one in found.judge.outcomes] == [(1, "Speech")]


def test_each_window_of_labelled_readings_is_a_sample(tmp_path: Path) -> None:
    activity = loaded(shipped("activity"))
    rate = getattr(activity.preprocess, "input").rate or 50  # noqa: B009 - mypy knows no model of readings
    seconds = np.arange(int(60 * rate)) / rate
    rows = ["x,y,z,label", *(f"0.0,0.0,{9.81 + 0.001 * np.sin(t):.4f},still" for t in seconds)]
    (tmp_path / "readings.csv").write_text("\n".join(rows))
    labels = activity.labels
    found = run(activity, open_dataset(tmp_path), Options({"still": labels[0]}))
    assert len(found.judge.outcomes) > 5
    assert not found.failures


def sample(label: str | None = None, expected: Any = None) -> LabelledSample:
    return LabelledSample("data.csv:2", label=label, expected=expected)


def labelled(*labels: str) -> Dataset:
    return Dataset(Path("data.csv"), "CSV", "labels", [sample(one) for one in labels], tuple(dict.fromkeys(labels)))


def test_values_are_judged_by_their_errors() -> None:
    judge = Regressed(labelled("1", "3"))
    for one, value in (("1", 1.5), ("3", 3.5)):
        judge.add(sample(one), [Prediction(None, 0, None, value=value)], {})
    assert judge.statistic(np.ones(2))["mae"] == 0.5
    with pytest.raises(ConfigError, match=r"data.csv:2: .*'three'"):
        Regressed(labelled("1", "three"))


def test_anomalies_are_judged_by_the_order_of_their_scores() -> None:
    judge = AnomalyFound(labelled("normal", "worn", "broken"), Options(false_alarms=0.0))
    for label, score in (("normal", 1.0), ("normal", 2.0), ("worn", 1.5), ("broken", 9.0)):
        judge.add(sample(label), [Prediction(None, None, None, value=score)], {})
    found = judge.statistic(np.ones(4))
    assert found["auroc"] == 0.75
    assert (found["threshold"], found["detected"], found["false_alarms"]) == (2.0, 0.5, 0.0)
    assert [row["alarms"] for row in judge.per_class()] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("labels", [("normal",), ("worn", "broken")])
def test_anomalies_need_normal_samples_and_others(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="--normal"):
        AnomalyFound(labelled(*labels), Options())


def test_the_bundled_anomaly_model_finds_what_it_was_made_for(tmp_path: Path) -> None:
    vibration = shipped("vibration")
    for path in (vibration / "golden").iterdir():
        place = tmp_path / path.name.partition("_")[0]
        place.mkdir(exist_ok=True)
        (place / path.name).symlink_to(path)
    found = report.document(run(loaded(vibration), open_dataset(tmp_path)), "vibration", tmp_path)
    assert found["metrics"]["auroc"] == 1


@pytest.mark.parametrize(
    ("expected", "answer", "right"),
    [
        ("4", " 4\n", True),
        ("4", "5", False),
        ({"a": 1, "b": [2]}, '{"b": [2], "a": 1.0}', True),
        ({"a": 1}, '{"a": 2}', False),
        ({"a": 1}, "no JSON", False),
    ],
)
def test_answers_are_compared_as_texts_or_as_json(expected: Any, answer: str, right: bool) -> None:
    judge = Answered(Dataset(Path("a.jsonl"), "JSON lines", "requests", []))
    judge.judge(sample(expected=expected), answer)
    assert judge.statistic(np.ones(1))["exact"] == float(right)


def palette_png(values: Any) -> bytes:
    """A PNG with a palette, of class numbers (height, width)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in values)
    palette = bytes(range(256)) * 3
    parts = (chunk(b"IHDR", header), chunk(b"PLTE", palette), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    "encode", [palette_png, lambda values: cv2.imencode(".png", values.astype(np.uint8))[1].tobytes()]
)
def test_masks_are_numbers_of_classes_grey_or_with_a_palette(encode: Callable[[Any], bytes], tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [255, 2, 0]])
    (tmp_path / "mask.png").write_bytes(encode(values))
    assert read_mask(tmp_path / "mask.png", 3).tolist() == values.tolist()
    with pytest.raises(InputError, match="found 2"):
        read_mask(tmp_path / "mask.png", 2)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(30), palette_png(np.zeros((2, 2)))[:60], b"GIF8"]
)
def test_a_damaged_mask_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(InputError):
        read_mask(tmp_path / "mask.png", 3)


def test_pixels_are_judged_by_class(data_dir: Path, tmp_path: Path) -> None:
    deeplab = loaded(data_dir / "misc_tflite" / "deeplabv3_mnv2_dm05_pascal_quant.tflite", labels=Path("none"))
    picture = data_dir / "images" / "bird_segmentation.bmp"
    answer = Predictor(deeplab, None, None).ask(read_file(picture))
    mask = np.zeros((answer.facts["height"], answer.facts["width"]), np.uint8)
    for one in answer.predictions:
        if one.class_id:
            cv2.fillPoly(mask, [np.array(part).astype(np.int32) for part in one.polygons or ()], one.class_id)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "images" / "bird.bmp").symlink_to(picture)
    (tmp_path / "masks" / "bird.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    (tmp_path / "classes.txt").write_text("".join(f"{number}\n" for number in range(21)))
    document = report.document(run(deeplab, open_dataset(tmp_path)), "deeplab", tmp_path)
    assert document["metrics"]["miou"] > 0.95
    cv2.rectangle(mask, (0, 0), (mask.shape[1] // 2, mask.shape[0]), 5, -1)
    (tmp_path / "masks" / "bird.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    document = report.document(run(deeplab, open_dataset(tmp_path)), "deeplab", tmp_path)
    assert document["metrics"]["miou"] < 0.7
    assert document["per_class"][0]["iou"] == 0


def test_the_judge_of_a_model_with_few_classes_has_no_top5(digits: Model) -> None:
    judge = Classified(labelled("a", "b"), ("a", "b"), Options())
    judge.add(sample("a"), [Prediction("a", 0, 0.9), Prediction("b", 1, 0.1)], {})
    assert set(judge.statistic(np.ones(1))) == {"top1", "calibration_error"}


def test_many_samples_are_answered_in_order_and_errors_in_their_place(digits: Model) -> None:
    pictures = sorted((shipped("digits") / "golden").glob("*.png"))
    predictor = Predictor(digits, 1, 0.0)
    reads = [lambda path=path: read_file(path) for path in [*pictures, Path("gone.png"), *pictures]]
    answers = list(predictor.ask_each(reads))
    alone = [predictor.ask(read_file(path)).predictions for path in pictures]
    assert isinstance(answers[len(pictures)], InputError)
    assert [getattr(one, "predictions", None) for one in answers] == [*alone, None, *alone]


def test_samples_are_read_a_few_ahead_and_no_more(digits: Model) -> None:
    picture = next((shipped("digits") / "golden").glob("*.png"))
    begun: list[int] = []

    def reads() -> Iterator[Callable[[], Sample]]:
        for number in range(1000):
            begun.append(number)
            yield lambda: read_file(picture)

    answers = Predictor(digits, 1, 0.0).ask_each(reads())
    for number, _ in enumerate(answers):
        assert len(begun) <= number + 1 + PREPARING + WAITING
        if number == 20:
            break


def test_a_pose_is_right_where_its_keypoints_are(data_dir: Path, tmp_path: Path) -> None:
    movenet = loaded(data_dir / "misc_tflite" / "movenet_single_pose_lightning_ptq.tflite")
    picture = data_dir / "images" / "squat.bmp"
    [person] = Predictor(movenet, None, None).ask(read_file(picture)).predictions
    points = np.array(person.keypoints)[:, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    (tmp_path / "squat.bmp").symlink_to(picture)

    def judged(shift: float) -> float:
        labelled = np.column_stack([points + shift, np.full(len(points), 2)])
        box = [*(low + shift), *(high - low)]
        annotation = {"image_id": 1, "category_id": 1, "bbox": box, "keypoints": labelled.ravel().tolist()}
        names = [str(number) for number in range(len(points))]
        stated = {
            "images": [{"id": 1, "file_name": "squat.bmp"}],
            "categories": [{"id": 1, "name": person.name, "keypoints": names}],
            "annotations": [annotation],
        }
        (tmp_path / "coco.json").write_text(json.dumps(stated))
        found: float = report.document(run(movenet, open_dataset(tmp_path)), "movenet", tmp_path)["metrics"]["ap"]
        return found

    assert judged(0) == 1
    assert judged(0.3 * float((high - low).mean())) == 0


def test_a_language_model_is_judged_by_its_answers(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    source = resolve(settings.Model(path=shipped("intents")), tmp_path)
    assert isinstance(source, LanguageSource)
    lines = [
        {"prompt": one.prompt, "json_schema": one.json_schema, "expected": json.loads(one.text)}
        for one in source.golden
        if one.json_schema is not None and not one.system
    ]
    wrong = lines[0] | {"expected": {"no": "such thing"}}
    (tmp_path / "requests.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, wrong]))
    model = language.load("it", settings.Model(path=shipped("intents")), source, lambda: None, 1, Budget(None))
    try:
        found = evaluate_language(model, open_dataset(tmp_path / "requests.jsonl"), Watching(), 0)
    finally:
        model.close()
    assert not found.failures
    assert [one.score for one in found.judge.outcomes] == [*([1.0] * len(lines)), 0.0]


def test_what_is_not_among_the_predictions_is_not_among_the_first_five() -> None:
    names = tuple("abcdefgh")
    judge = Classified(labelled("a", "b"), names, Options())
    judge.add(sample("a"), [Prediction("a", 0, 0.9)], {})
    judge.add(sample("b"), [Prediction("a", 0, 0.9)], {})
    judge.add(sample("b"), [], {})
    found = judge.statistic(np.ones(3))
    assert found["top1"] == found["top5"] == pytest.approx(1 / 3)
