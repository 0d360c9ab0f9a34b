# empty vectors among vectors have gradients too
def make(torch):
    return [_random(torch, (0, 3), 1, torch.float64).requires_grad_(), _random(torch, (2,), 2, torch.float64).requires_grad_()]


def run(torch, v1, v2):
    v3 = torch.cat([v1.reshape(-1), v2])
    return v3.sum(), [v3]
