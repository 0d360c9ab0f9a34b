# arguments that are views of one another, written and read through both
def make(torch):
    v1 = _random(torch, (4, 3), 1, torch.float32)
    return [v1, v1[1:3], v1.t()]


def run(torch, v1, v2, v3):
    v2 += 1
    v4 = v1 * 2
    v3[0].mul_(0.5)
    v5 = v2.sum(0)
    return v4.sum(), [v4, v5]
