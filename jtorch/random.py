"""`torch.random`: the default generator."""
import contextlib as _contextlib

from jtorch.ops.random import default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state


@_contextlib.contextmanager
def fork_rng(devices=None, enabled=True, device_type="cpu"):
    """Inside the block, random numbers are drawn; behind it, the generator is as before."""
    state = get_rng_state() if enabled else None
    try:
        yield
    finally:
        if state is not None:
            set_rng_state(state)


__all__ = ["default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]
