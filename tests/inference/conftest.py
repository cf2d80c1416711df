import pytest

from tests.inference import oracles


@pytest.fixture(scope="session", autouse=True)
def _declared_number_of_p_values():
    yield
    assert oracles.num_p_values <= oracles.NUM_P_VALUES, "raise NUM_P_VALUES: the rate is declared"
