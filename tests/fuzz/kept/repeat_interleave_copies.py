# repeats of an axis of size 1 could be a view, but the result is a copy
def make(torch):
    return [_random(torch, (1, 2), 1, torch.float32)]


def run(torch, v1):
    v2 = v1.repeat_interleave(2, 0)
    v1.zero_()
    v2[0] += 1
    return v2.sum(), [v2]
