"""ResNet-18."""

import numpy as np

from benchmarks.case import Case, Program

from .training import training_program


def make_model(torch, classes=1000):
    nn = torch.nn

    class Block(nn.Module):
        """Two 3x3 convolutions around a shortcut."""

        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.relu = nn.ReLU()
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.downsample = None
            if stride != 1 or inputs != outputs:
                self.downsample = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )

        def forward(self, x):
            shortcut = x if self.downsample is None else self.downsample(x)
            x = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(x)) + shortcut)

    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for inputs, outputs, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        layers += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def _images(batch, size):
    return np.random.default_rng(0).standard_normal((batch, 3, size, size), np.float32)


def build_inference(torch):
    return Program(make_model(torch).eval(), (torch.from_numpy(_images(1, 224)).clone(),))


def build_training(torch):
    model = make_model(torch)
    x, y = torch.from_numpy(_images(4, 64)).clone(), torch.from_numpy(np.arange(4)).clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return training_program(model, torch.nn.functional.cross_entropy, optimizer, x, y)


CASES = [
    Case("infer ResNet-18, 224 px, b1", build_inference, exportable=True),
    Case("train ResNet-18, 64 px, b4, SGD", build_training),
]
