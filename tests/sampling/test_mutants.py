import pytest

from bgan_video.sampling import SGHMC, Gaussian
from tests.sampling import mutants
from tests.sampling.oracles import CHECKS, Settings
from tests.sampling.test_priors import check_gaussian

SETTINGS = Settings(gradient_noise=0.1)


def rejections(sampler: type[SGHMC]) -> list[str]:
    names: list[str] = []
    for check in CHECKS:
        try:
            check(sampler, SETTINGS)
        except AssertionError:
            names.append(check.__name__)
    return names


@pytest.mark.statistical
def test_the_correct_sampler_passes_every_check():
    assert rejections(SGHMC) == []


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", mutants.SAMPLERS, ids=lambda mutant: mutant.__name__)
def test_every_mutant_sampler_is_caught(mutant: type[SGHMC]):
    assert rejections(mutant) != []


@pytest.mark.parametrize("mutant", mutants.PRIORS, ids=lambda mutant: mutant.__name__)
def test_every_mutant_prior_is_caught(mutant: type[Gaussian]):
    check_gaussian(Gaussian)
    with pytest.raises(AssertionError):
        check_gaussian(mutant)
