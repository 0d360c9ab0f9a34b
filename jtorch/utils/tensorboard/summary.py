"""TensorBoard's messages, made of numbers and arrays."""
from __future__ import annotations

import io
import json
import wave
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.pr_curve.plugin_data_pb2 import PrCurvePluginData
from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData

from jtorch._tensor import Tensor

FLOAT, STRING = 1, 7  # of TensorFlow's DataType


def array_of(x: Any) -> np.ndarray:
    """A tensor, array or number as an array."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        return (x.float() if x.dtype.itemsize == 2 else x).numpy()
    return np.asarray(x)


def number(x: Any) -> float:
    a = array_of(x)
    if a.size != 1:
        raise ValueError(f"a scalar is needed, not an array of shape {a.shape}")
    return float(a.reshape(()))


def _tensor(dtype: int, dims: Sequence[int], **values: Any) -> TensorProto:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=d) for d in dims])
    return TensorProto(dtype=dtype, tensor_shape=shape, **values)


def _of_plugin(name: str, content: bytes) -> SummaryMetadata:
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=name, content=content))


def scalar(tag: str, value: Any, new_style: bool = False) -> Summary:
    if new_style:
        tensor = _tensor(FLOAT, (), float_val=[number(value)])
        return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=_of_plugin("scalars", b""))])
    return Summary(value=[Summary.Value(tag=tag, simple_value=number(value))])


def text(tag: str, value: str) -> Summary:
    metadata = _of_plugin("text", TextPluginData(version=0).SerializeToString())
    return Summary(value=[Summary.Value(tag=f"{tag}/text_summary", metadata=metadata,
                                        tensor=_tensor(STRING, (1,), string_val=[value.encode()]))])


def _default_bins() -> np.ndarray:
    positive = 1e-12 * 1.1 ** np.arange(774)
    return np.concatenate([-positive[::-1], [0], positive])


def histogram(tag: str, values: Any, bins: Any = "tensorflow", max_bins: int | None = None) -> Summary:
    """ValueError if there are no values."""
    a = array_of(values).reshape(-1).astype(np.float64)
    if not a.size:
        raise ValueError("The input has no element.")
    counts, limits = np.histogram(a, _default_bins() if bins == "tensorflow" else bins)
    if max_bins is not None and len(counts) > max_bins:
        step = len(counts) // max_bins
        counts = np.add.reduceat(counts, np.arange(0, len(counts), step))
        limits = np.append(limits[:-1:step], limits[-1])
    used = np.flatnonzero(counts)
    if len(used):
        low, high = used[0], used[-1] + 1
        counts, limits = counts[low:high], limits[low:high + 1]
    return Summary(value=[Summary.Value(tag=tag, histo=HistogramProto(
        min=a.min(), max=a.max(), num=a.size, sum=a.sum(), sum_squares=(a * a).sum(),
        bucket_limit=limits.tolist(), bucket=[0.0, *counts.tolist()]))])


def raw_histogram(tag: str, **fields: Any) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, histo=HistogramProto(**fields))])


def _pixels(a: np.ndarray, dataformats: str) -> np.ndarray:
    """Height, width, channels in bytes."""
    if a.ndim != len(dataformats):
        raise ValueError(f"an image of shape {a.shape} does not fit dataformats='{dataformats}'")
    scale = 1 if a.dtype == np.uint8 else 255.0
    order = dataformats.upper()
    if order == "HW":
        a = np.repeat(a[..., None], 3, 2)
    elif "N" in order:
        a = _grid(a.transpose([order.index(c) for c in "NHWC"]))
    else:
        a = a.transpose([order.index(c) for c in "HWC"])
    return (a * scale).clip(0, 255).astype(np.uint8)


def _grid(images: np.ndarray, columns: int = 8) -> np.ndarray:
    """[N, H, W, C] beside and above each other."""
    n, h, w, c = images.shape
    columns = min(n, columns)
    rows = -(-n // columns)
    full = np.zeros((rows * columns, h, w, c), images.dtype)
    full[:n] = images
    return full.reshape(rows, columns, h, w, c).swapaxes(1, 2).reshape(rows * h, columns * w, c)


def image(tag: str, value: Any, dataformats: str = "CHW", boxes: Any = None, labels: Any = None) -> Summary:
    """Bytes are taken as they are, other numbers as 0 to 1. `boxes` of x0, y0, x1, y1 are drawn in."""
    from PIL import Image, ImageDraw
    pixels = _pixels(array_of(value), dataformats)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if boxes is not None:
        draw = ImageDraw.Draw(picture)
        for i, (x0, y0, x1, y1) in enumerate(array_of(boxes).tolist()):
            draw.rectangle((x0, y0, x1, y1), outline="red", width=2)
            if labels is not None:
                draw.text((x0, y0), str(labels[i]), fill="red")
    file = io.BytesIO()
    picture.save(file, "png")
    return _image(tag, pixels.shape, file.getvalue())


def video(tag: str, frames: Any, fps: float = 4) -> Summary:
    """[N, T, C, H, W] as an animated GIF."""
    from PIL import Image
    a = array_of(frames)
    if a.ndim != 5:
        raise ValueError(f"a video has shape [N, T, C, H, W], not {a.shape}")
    pictures = [Image.fromarray(_pixels(a[:, t], "NCHW").repeat(3 if a.shape[2] == 1 else 1, 2))
                for t in range(a.shape[1])]
    file = io.BytesIO()
    pictures[0].save(file, "gif", save_all=True, append_images=pictures[1:], duration=1000 / fps, loop=0)
    return _image(tag, (pictures[0].height, pictures[0].width, 3), file.getvalue())


def _image(tag: str, shape: Sequence[int], encoded: bytes) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, image=Summary.Image(
        height=shape[0], width=shape[1], colorspace=shape[2], encoded_image_string=encoded))])


def audio(tag: str, sound: Any, sample_rate: int = 44100) -> Summary:
    """Samples between -1 and 1, one channel."""
    samples = (array_of(sound).reshape(-1).clip(-1, 1) * 32767).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.writeframes(samples.tobytes())
    return Summary(value=[Summary.Value(tag=tag, audio=Summary.Audio(
        sample_rate=sample_rate, num_channels=1, length_frames=len(samples), encoded_audio_string=file.getvalue(),
        content_type="audio/wav"))])


def pr_curve(tag: str, labels: Any, predictions: Any, num_thresholds: int = 127, weights: Any = None) -> Summary:
    """Precision and recall over thresholds from 0 to 1."""
    labels, predictions = array_of(labels).reshape(-1), array_of(predictions).reshape(-1)
    weights = np.ones(len(labels)) if weights is None else array_of(weights).reshape(-1)
    n = min(num_thresholds, 127)
    bucket = np.floor(predictions * (n - 1)).astype(int)
    tp, fp = (np.bincount(bucket, f * weights, n)[::-1].cumsum()[::-1] for f in (labels, 1 - labels))
    tn, fn = fp[0] - fp, tp[0] - tp
    tiny = 1e-7
    curve = np.stack([tp, fp, tn, fn, tp / np.maximum(tiny, tp + fp), tp / np.maximum(tiny, tp + fn)])
    content = PrCurvePluginData(version=0, num_thresholds=n).SerializeToString()
    return Summary(value=[Summary.Value(tag=tag, metadata=_of_plugin("pr_curves", content),
                                        tensor=_tensor(FLOAT, curve.shape, float_val=curve.reshape(-1).tolist()))])


def custom_scalars(layout: Mapping[str, Mapping[str, Sequence[Any]]]) -> Summary:
    """{category: {chart: ["Multiline" | "Margin", tags]}}."""
    categories = []
    for category, charts in layout.items():
        made = []
        for title, (kind, tags) in charts.items():
            if kind == "Margin":
                value, lower, upper = tags
                series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
                made.append(layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series])))
            else:
                made.append(layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=list(tags))))
        categories.append(layout_pb2.Category(title=category, chart=made))
    content = layout_pb2.Layout(category=categories).SerializeToString()
    return Summary(value=[Summary.Value(tag="custom_scalars__config__", metadata=_of_plugin("custom_scalars", b""),
                                        tensor=_tensor(STRING, (), string_val=[content]))])


def hparams(values: Mapping[str, Any], metrics: Mapping[str, Any], domains: Mapping[str, Sequence[Any]] | None = None
            ) -> tuple[Summary, Summary, Summary]:
    """The experiment (which hyperparameters and metrics there are), the start of a session, and its end.
    ValueError for values that are neither numbers, strings nor booleans."""
    kinds = ((bool, api_pb2.DATA_TYPE_BOOL, "bool_value"), (str, api_pb2.DATA_TYPE_STRING, "string_value"),
             ((int, float), api_pb2.DATA_TYPE_FLOAT64, "number_value"))
    start = plugin_data_pb2.SessionStartInfo()
    infos = []
    for name, x in values.items():
        x = array_of(x).item() if isinstance(x, Tensor | np.generic) else x
        if x is None:
            continue
        kind = next((k for k in kinds if isinstance(x, k[0])), None)
        if kind is None:
            raise ValueError(f"value should be one of int, float, str, bool, or torch.Tensor, got {type(x).__name__}")
        setattr(start.hparams[name], kind[2], x)
        info = api_pb2.HParamInfo(name=name, type=kind[1])
        if domains and name in domains:
            info.domain_discrete.extend(list(domains[name]))
        infos.append(info)
    metric_infos = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=m)) for m in metrics]
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    contents = {"_hparams_/experiment": {"experiment": api_pb2.Experiment(hparam_infos=infos,
                                                                          metric_infos=metric_infos)},
                "_hparams_/session_start_info": {"session_start_info": start},
                "_hparams_/session_end_info": {"session_end_info": end}}
    first, second, third = (Summary(value=[Summary.Value(tag=tag, metadata=_of_plugin(
        "hparams", plugin_data_pb2.HParamsPluginData(version=0, **data).SerializeToString()))])
        for tag, data in contents.items())
    return first, second, third


def projector_config(entries: Sequence[Mapping[str, str]]) -> str:
    """The text of a projector_config.pbtxt."""
    lines = []
    for entry in entries:
        inside = "".join(f"  {key}: {json.dumps(value)}\n" for key, value in entry.items())
        lines.append(f"embeddings {{\n{inside}}}\n")
    return "".join(lines)
