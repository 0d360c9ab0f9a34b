# a matmul whose result lay in the memory of an output that is not computed from it
def make(torch):
    return [_random(torch, (2, 2, 5), 573028, torch.float32).requires_grad_()]


def run(torch, v1):
    v2 = (v1.abs() + 0.5).sqrt()
    v3 = v2 @ v2.transpose(-1, -2)
    v4 = v1.flip(0)
    loss = _loss(torch, v3)
    return loss, [v4]
