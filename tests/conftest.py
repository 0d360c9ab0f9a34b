"""What holds for every test."""
import pytest

from jtorch.capture.record import current
from jtorch.config import config


@pytest.fixture(autouse=True)
def no_fresh_start_within_a_test():
    """The recorder forgets its programs when it has interned too many values. Thousands of tests in one process make
    that come at any moment; a test that counts programs or interpreted runs must not meet it."""
    recorder = current.recorder
    if len(recorder.builder.table) > config.max_interned // 2:
        recorder.flush()
        recorder.reset()
