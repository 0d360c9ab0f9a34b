# a row kernel's scratch began at `b8`, which is also how kernels say bool
def make(torch):
    return [_random(torch, (4, 1, 2), 752541, torch.float32)]


def run(torch, v1):
    v3 = -2 - v1
    v4 = torch.logaddexp(v3, v1)
    v5 = v1 * 0.5 + 1
    v9 = -v4
    v10 = 0 / (v1 * v1 + 1)
    v11 = torch.nn.functional.layer_norm(v9, (2,))
    loss = _loss(torch, v1, v1, v10, v11, v3, v4, v5)
    return loss, [v1, v3, v4, v5, v9, v10, v11]
