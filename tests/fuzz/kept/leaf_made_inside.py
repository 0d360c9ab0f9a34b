# a traced function that makes leaf tensors of its own
def make(torch):
    return [_random(torch, (3,), 1, torch.float64).requires_grad_()]


def run(torch, v1):
    v2 = v1.detach().clone().requires_grad_()
    v3 = (v1 * v2).tanh()
    return v3.sum(), [v2, v3]
