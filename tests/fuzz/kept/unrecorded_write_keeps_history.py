# a write under no_grad changes the data; the derivative stays that of what was there
def make(torch):
    return [_random(torch, (3, 2), 1, torch.float64).requires_grad_()]


def run(torch, v1):
    v2 = v1.cumsum(0)
    with torch.no_grad():
        torch.exp(v2.clamp(-1, 1), out=v2)
    v3 = v1 * 1.5
    with torch.no_grad():
        v3[0].mul_(2)
    v4 = v1 * 0.5
    v4.detach()[1:].zero_()
    return v2.sum() + (v3 * 2).sum() + v4.sum(), [v2, v3, v4]
