"""The suite's declared false-alarm rate is kept, and shown with `-v`."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass

import pytest

from tests.sampling import oracles


@dataclass
class Spent:
    """What the cases of one test took."""

    cases: int = 0
    p_values: int = 0
    seconds: float = 0.0


SPENT: dict[str, Spent] = defaultdict(Spent)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    before, started = oracles.num_p_values, time.perf_counter()
    result = yield
    if item.get_closest_marker("statistical") is not None:
        spent = SPENT[item.nodeid.rpartition("/")[2].partition("[")[0]]
        spent.cases += 1
        spent.p_values += oracles.num_p_values - before
        spent.seconds += time.perf_counter() - started
    return result


@pytest.fixture(scope="session", autouse=True)
def _declared_number_of_p_values():
    yield
    assert oracles.num_p_values <= oracles.NUM_P_VALUES, "raise NUM_P_VALUES: the rate is declared"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config):
    if not SPENT or config.get_verbosity() < 1:
        return
    terminalreporter.section("statistical tests and their false-alarm rates")
    terminalreporter.write_line(f"{'cases':>6}{'p-values':>9}{'rate':>10}{'seconds':>9}  test")
    for name, spent in SPENT.items():
        terminalreporter.write_line(
            f"{spent.cases:6}{spent.p_values:9}{spent.p_values * oracles.THRESHOLD:10.1e}"
            f"{spent.seconds:9.1f}  {name}"
        )
    total = oracles.num_p_values * oracles.THRESHOLD
    terminalreporter.write_line(f"false alarm of all of them: at most {total:.1e}")
