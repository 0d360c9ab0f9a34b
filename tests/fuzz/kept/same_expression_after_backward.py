# the same expression again after its graph was given up is a graph of its own
def make(torch):
    return [_random(torch, (3,), 1, torch.float64).requires_grad_()]


def run(torch, v1):
    (v1 * v1).sum().backward()
    v2 = v1 * v1
    (v2.exp() * v2).sum().backward()
    v3 = v1.exp()
    return (v1 * v1 + v3).sum(), [v3]
