"""Datasets for tests of DataLoader's workers, written against the torch API; spawned workers import this module."""
from __future__ import annotations

import os
import random
import signal
import time

import numpy as np

import jtorch
from jtorch.utils import data


class Draws:
    """Samples made of the worker's random numbers."""

    def __init__(self, torch, torch_data, n=23):
        self.torch, self.data, self.n = torch, torch_data, n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        info = self.data.get_worker_info()
        return i, self.torch.rand(2), np.random.rand(), random.random(), info.id, info.num_workers, info.seed


class OwnDraws(Draws):
    """Of jtorch, so that it can be sent to a spawned worker."""

    def __init__(self):
        super().__init__(None, None)

    def __getitem__(self, i):
        self.torch, self.data = jtorch, data
        return super().__getitem__(i)


class Rows(data.Dataset):
    """Rows of a tensor, too large for the pipe when batched; some tell where they were read."""

    def __init__(self, n=24, width=2000):
        self.x = jtorch.arange(float(n)).reshape(n, 1).expand(n, width).clone()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], i, os.getpid()


class Misbehaving(data.Dataset):
    """At sample 4 the worker does what `deed` says."""

    def __init__(self, deed):
        self.deed = deed

    def __len__(self):
        return 12

    def __getitem__(self, i):
        if i == 4:
            getattr(self, self.deed)()
        return jtorch.full((3000,), float(i))

    def value_error(self):
        raise ValueError("sample four is bad")

    def key_error(self):
        raise KeyError("four")

    def odd_error(self):
        raise OddError(1, 2)

    def killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def leaves(self):
        os._exit(3)

    def slow(self):
        time.sleep(60)


class OddError(Exception):
    def __init__(self, a, b):
        super().__init__(a + b)


def initialise(worker):
    random.seed(worker)


def fail_to_initialise(worker):
    raise RuntimeError(f"no start for {worker}")


class FirstOfAll:
    """A dataset of which every sample is its worker's number, drawn by Python's generator."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return random.random()
