# the copies of a sort's results began before it, where what a scatter checks was put in front
def make(torch):
    v1 = _random(torch, (3, 2, 3), 856785, torch.float32).requires_grad_()
    v2 = _integers(torch, (0, 3), 596812, torch.int32)
    return [v1, v2]


def run(torch, v1, v2):
    v3 = v1.topk(2, 1)[0]
    v4 = v1.cos()
    v5 = v2.repeat((1, 2))
    v6 = torch.stack([v1, v3], 0)
    loss = _loss(torch, v1, v1, v3, v4, v6)
    return loss, [v1, v2, v3, v4, v5, v6]
