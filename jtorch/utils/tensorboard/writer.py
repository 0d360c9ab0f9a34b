"""`SummaryWriter`: what a training loop logs for TensorBoard."""
from __future__ import annotations

import datetime
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from jtorch.utils.tensorboard import summary


class FileWriter:
    """Writes events into one file of a folder, from a thread of its own."""

    def __init__(self, log_dir: str | os.PathLike[str], max_queue: int = 10, flush_secs: float = 120,
                 filename_suffix: str = "") -> None:
        self.event_writer = EventFileWriter(str(log_dir), max_queue, flush_secs, filename_suffix)

    def get_logdir(self) -> str:
        return self.event_writer.get_logdir()

    def add_event(self, event: Event, step: int | None = None, walltime: float | None = None) -> None:
        event.wall_time = time.time() if walltime is None else walltime
        if step is not None:
            event.step = int(step)
        self.event_writer.add_event(event)

    def add_summary(self, summary: Summary, global_step: int | None = None, walltime: float | None = None) -> None:
        self.add_event(Event(summary=summary), global_step, walltime)

    def flush(self) -> None:
        self.event_writer.flush()

    def close(self) -> None:
        self.event_writer.close()


class SummaryWriter:
    """Logs into `log_dir`, by default runs/DATE_TIME_HOST followed by `comment`. Also a context manager.

    `global_step` and `walltime` (seconds since 1970) say where on the axes an entry stands. Tensors, arrays and numbers
    are taken alike. TypeError and ValueError where one cannot be shown.
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None = None, comment: str = "", purge_step: int | None = None,
                 max_queue: int = 10, flush_secs: float = 120, filename_suffix: str = "") -> None:
        if not log_dir:
            now = datetime.datetime.now().strftime("%b%d_%H-%M-%S")
            log_dir = os.path.join("runs", f"{now}_{socket.gethostname()}{comment}")
        self.log_dir = str(log_dir)
        self._options = (max_queue, flush_secs, filename_suffix)
        self._writers: dict[str, FileWriter] = {}
        writer = self._writer()
        if purge_step is not None:
            writer.add_event(Event(file_version="brain.Event:2"), purge_step)
            writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), purge_step)

    def _writer(self, folder: str | None = None) -> FileWriter:
        place = self.log_dir if folder is None else folder
        if place not in self._writers:
            self._writers[place] = FileWriter(place, *self._options)
        return self._writers[place]

    @property
    def file_writer(self) -> FileWriter:
        return self._writer()

    def get_logdir(self) -> str:
        return self.log_dir

    def _add(self, message: Summary, step: int | None, walltime: float | None) -> None:
        self._writer().add_summary(message, step, walltime)

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None, walltime: float | None = None,
                   new_style: bool = False, double_precision: bool = False) -> None:
        self._add(summary.scalar(tag, scalar_value, new_style), global_step, walltime)

    def add_scalars(self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: int | None = None,
                    walltime: float | None = None) -> None:
        """Several curves in one chart: each has a folder of its own."""
        for tag, value in tag_scalar_dict.items():
            folder = os.path.join(self.log_dir, f"{main_tag.replace('/', '_')}_{tag}")
            self._writer(folder).add_summary(summary.scalar(main_tag, value), global_step, walltime)

    def add_histogram(self, tag: str, values: Any, global_step: int | None = None, bins: Any = "tensorflow",
                      walltime: float | None = None, max_bins: int | None = None) -> None:
        self._add(summary.histogram(tag, values, bins, max_bins), global_step, walltime)

    def add_histogram_raw(self, tag: str, min: Any, max: Any, num: Any, sum: Any, sum_squares: Any,
                          bucket_limits: Sequence[Any], bucket_counts: Sequence[Any], global_step: int | None = None,
                          walltime: float | None = None) -> None:
        if len(bucket_limits) != len(bucket_counts):
            raise ValueError("len(bucket_limits) != len(bucket_counts), see the document.")
        self._add(summary.raw_histogram(tag, min=min, max=max, num=num, sum=sum, sum_squares=sum_squares,
                                        bucket_limit=list(bucket_limits), bucket=list(bucket_counts)),
                  global_step, walltime)

    def add_image(self, tag: str, img_tensor: Any, global_step: int | None = None, walltime: float | None = None,
                  dataformats: str = "CHW") -> None:
        self._add(summary.image(tag, img_tensor, dataformats), global_step, walltime)

    def add_images(self, tag: str, img_tensor: Any, global_step: int | None = None, walltime: float | None = None,
                   dataformats: str = "NCHW") -> None:
        self._add(summary.image(tag, img_tensor, dataformats), global_step, walltime)

    def add_image_with_boxes(self, tag: str, img_tensor: Any, box_tensor: Any, global_step: int | None = None,
                             walltime: float | None = None, rescale: float = 1, dataformats: str = "CHW",
                             labels: Sequence[str] | None = None) -> None:
        self._add(summary.image(tag, img_tensor, dataformats, box_tensor, labels), global_step, walltime)

    def add_figure(self, tag: str, figure: Any, global_step: int | None = None, close: bool = True,
                   walltime: float | None = None) -> None:
        """Matplotlib's figure or figures, closed afterwards."""
        import matplotlib.pyplot as plt
        import numpy as np
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        several = isinstance(figure, Sequence)
        pictures = []
        for f in figure if several else [figure]:
            canvas = FigureCanvasAgg(f)
            canvas.draw()
            pictures.append(np.asarray(canvas.buffer_rgba())[..., :3])
            if close:
                plt.close(f)
        self._add(summary.image(tag, np.stack(pictures) if several else pictures[0], "NHWC" if several else "HWC"),
                  global_step, walltime)

    def add_video(self, tag: str, vid_tensor: Any, global_step: int | None = None, fps: float = 4,
                  walltime: float | None = None) -> None:
        self._add(summary.video(tag, vid_tensor, fps), global_step, walltime)

    def add_audio(self, tag: str, snd_tensor: Any, global_step: int | None = None, sample_rate: int = 44100,
                  walltime: float | None = None) -> None:
        self._add(summary.audio(tag, snd_tensor, sample_rate), global_step, walltime)

    def add_text(self, tag: str, text_string: str, global_step: int | None = None, walltime: float | None = None
                 ) -> None:
        self._add(summary.text(tag, text_string), global_step, walltime)

    def add_pr_curve(self, tag: str, labels: Any, predictions: Any, global_step: int | None = None,
                     num_thresholds: int = 127, weights: Any = None, walltime: float | None = None) -> None:
        self._add(summary.pr_curve(tag, labels, predictions, num_thresholds, weights), global_step, walltime)

    def add_custom_scalars(self, layout: Mapping[str, Any]) -> None:
        self._add(summary.custom_scalars(layout), None, None)

    def add_hparams(self, hparam_dict: Mapping[str, Any], metric_dict: Mapping[str, Any],
                    hparam_domain_discrete: Mapping[str, Sequence[Any]] | None = None, run_name: str | None = None,
                    global_step: int | None = None) -> None:
        """A run in the table of hyperparameters, in a folder of its own."""
        if not isinstance(hparam_dict, dict) or not isinstance(metric_dict, dict):
            raise TypeError("hparam_dict and metric_dict should be dictionary.")
        messages = summary.hparams(hparam_dict, metric_dict, hparam_domain_discrete)
        with SummaryWriter(os.path.join(self.log_dir, run_name or str(time.time()))) as writer:
            for message in messages:
                writer.file_writer.add_summary(message)
            for name, value in metric_dict.items():
                writer.add_scalar(name, value, global_step)

    def add_embedding(self, mat: Any, metadata: Sequence[Any] | None = None, label_img: Any = None,
                      global_step: int | None = None, tag: str = "default",
                      metadata_header: Sequence[str] | None = None) -> None:
        """Points for the projector: rows of a matrix, with labels. NotImplementedError for pictures of them."""
        if label_img is not None:
            raise NotImplementedError("add_embedding: label_img (sprites) is not written; metadata is")
        a = summary.array_of(mat)
        folder = os.path.join(f"{global_step or 0:05}", tag.replace("/", "%%"))
        os.makedirs(os.path.join(self.log_dir, folder), exist_ok=True)
        entry = {"tensor_name": f"{tag}:{global_step or 0:05}", "tensor_path": os.path.join(folder, "tensors.tsv")}
        with open(os.path.join(self.log_dir, folder, "tensors.tsv"), "w") as file:
            file.writelines("\t".join(map(str, row)) + "\n" for row in a.tolist())
        if metadata is not None:
            if len(metadata) != len(a):
                raise AssertionError("#labels should equal with #data points")
            entry["metadata_path"] = os.path.join(folder, "metadata.tsv")
            rows = [list(metadata_header), *metadata] if metadata_header else list(metadata)
            with open(os.path.join(self.log_dir, folder, "metadata.tsv"), "w") as file:
                file.writelines(("\t".join(map(str, r)) if isinstance(r, list | tuple) else str(r)) + "\n"
                                for r in rows)
        with open(os.path.join(self.log_dir, "projector_config.pbtxt"), "a") as file:
            file.write(summary.projector_config([entry]))

    def add_graph(self, model: Any, input_to_model: Any = None, verbose: bool = False,
                  use_strict_trace: bool = True) -> None:
        """Not written: NotImplementedError. `jit.trace(model).graph` prints the graph of a model."""
        raise NotImplementedError("add_graph is not implemented; jit.trace(model).graph prints the graph of a model")

    def flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()
