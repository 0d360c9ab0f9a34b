"""An epoch with a DataLoader over 28 by 28 images, shuffled, with the calling process or two workers reading them.

Each batch's first number is looked at, so a batch has to be there; nothing else is done with it. With workers their
start and end belong to the epoch.
"""

from benchmarks.case import Case, Program

SAMPLES, BATCH = 6400, 64


def images(torch):
    torch.manual_seed(0)
    return torch.rand(SAMPLES, 1, 28, 28), torch.randint(0, 10, (SAMPLES,))


def rows(torch, data):
    """The tensors themselves."""
    return data.TensorDataset(*images(torch))


def arrays(torch, data):
    """A dataset in Python whose transform works on NumPy arrays, as most image transforms do."""

    class Arrays(data.Dataset):
        """Images as bytes, normalised when they are read."""

        def __init__(self):
            x, y = images(torch)
            self.images, self.labels = (x * 255).to(torch.uint8).numpy().copy(), y.tolist()

        def __len__(self):
            return SAMPLES

        def __getitem__(self, i):
            image = self.images[i].astype("float32") / 255
            return torch.from_numpy((image - 0.13) / 0.31), self.labels[i]

    return Arrays()


def tensors(torch, data):
    """A dataset in Python whose transform works on tensors."""

    class Tensors(data.Dataset):
        """Images as floats, normalised when they are read."""

        def __init__(self):
            self.images, self.labels = images(torch)

        def __len__(self):
            return SAMPLES

        def __getitem__(self, i):
            return (self.images[i] - 0.13) / 0.31, int(self.labels[i])

    return Tensors()


def epoch_over(dataset, workers):
    def build(torch):
        import importlib

        data = importlib.import_module(f"{torch.__name__}.utils.data")
        loader = data.DataLoader(dataset(torch, data), batch_size=BATCH, shuffle=True, num_workers=workers)

        def epoch():
            return sum(batch[0, 0, 0, 0].item() + len(labels) for batch, labels in loader)

        return Program(epoch)

    return build


DATASETS = (("TensorDataset", rows), ("Dataset of arrays", arrays), ("Dataset of tensors", tensors))
CASES = [
    Case(f"epoch of 6400 images, {name}, {workers} workers", epoch_over(dataset, workers), eager_only=True)
    for name, dataset in DATASETS
    for workers in (0, 2)
]
