# `alpha` scales in the dtype of the sum, not in that of the operand
def make(torch):
    return [_random(torch, (3,), 1, torch.float64).requires_grad_(), _integers(torch, (), 2, torch.uint8)]


def run(torch, v1, v2):
    v3 = torch.add(v1, v2, alpha=0.3)
    return v3.sum(), [v3]
