# results of a traced function that are views of its arguments, of each other, or the same tensor twice
def make(torch):
    return [_random(torch, (3, 2), 1, torch.float64), _random(torch, (2,), 2, torch.float64).requires_grad_()]


def run(torch, v1, v2):
    v3 = v1.t()
    v4 = v2.detach()
    v5 = v1 * 2
    v6 = v5[1]
    return (v5 * v2).sum(), [v1, v3, v4, v5, v6, v5]
