"""Which parameter is of which group, and its fan-in."""

import pytest
import torch
from torch import nn

from bgan_video.sampling import PriorGroups


def test_every_parameter_has_the_factor_of_its_group():
    module = nn.Sequential(nn.Conv2d(3, 4, 5), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    found = PriorGroups(bias=2, norm=3, head=5).factors(module, module[3])
    expected = {"0.bias": 2, "1.weight": 3, "1.bias": 3, "2.weight": 3, "2.bias": 3}
    expected |= {"3.weight": 5, "3.bias": 2}
    names = {parameter: name for name, parameter in module.named_parameters()}
    assert {names[parameter]: factor for parameter, factor in found.items()} == expected


@pytest.mark.parametrize(
    ("module", "fan_in"),
    [
        (nn.Linear(7, 3), 7),
        (nn.Conv3d(4, 6, (1, 2, 3)), 24),
        (nn.Conv2d(4, 6, 3, groups=2), 18),
        (nn.ConvTranspose2d(4, 6, 3), 36),
        (nn.ConvTranspose3d(4, 6, 2, groups=2), 32 / 2),
    ],
)
def test_fan_in_is_the_number_of_inputs_that_an_output_sums(module: nn.Module, fan_in: int):
    found = PriorGroups(by_fan_in=True).factors(module)
    assert found == {module.weight: pytest.approx(fan_in**-0.5)}


def test_alike_groups_name_nobody():
    assert PriorGroups().factors(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))) == {}


def test_tokens_and_codes_of_places_have_no_inputs() -> None:
    network = nn.Module()
    network.pos_embed = nn.Parameter(torch.zeros(1, 197, 192))
    network.table = nn.Embedding(5, 3)
    network.attention = nn.MultiheadAttention(16, 2)
    found = PriorGroups(by_fan_in=True).factors(network)
    kernels = [network.attention.in_proj_weight, network.attention.out_proj.weight]
    assert found == {kernel: pytest.approx(0.25) for kernel in kernels}
