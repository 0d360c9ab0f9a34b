# a 0-d tensor filled with a Python number is a tensor: it promotes as one, and may be the only operand
def make(torch):
    return [_random(torch, (), 1, torch.float64), _random(torch, (), 2, torch.float32)]


def run(torch, v1, v2):
    v1.fill_(0.3)
    v3 = v1 * 0.7
    v4 = v1 * v2
    v5 = torch.full((), 0.25, dtype=torch.float64) + v2
    return v3 + v4 + v5, [v3, v4, v5]
