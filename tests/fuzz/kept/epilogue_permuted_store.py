# The result of an epilogue that is stored permuted must not share memory with the product that it is made of.
def make(torch):
    return [_random(torch, (2, 2, 5), 286165, torch.float32), _random(torch, (2, 5, 2), 2349, torch.float32)]


def run(torch, v1, v2):
    v5 = v1 @ v2 + 0.5
    return v1.sum().to(torch.float64), [v5.permute((0, 2, 1))]
