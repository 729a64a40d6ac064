"""Transactions of nftables once more, on the kernel of a distribution instead of that of the machine."""

import pytest
from tests.integration.test_firewall_batch import (
    netns as netns,
)
from tests.integration.test_firewall_batch import (
    test_nft_shows_the_same_as_if_it_had_loaded_it as test_nft_shows_the_same_as_if_it_had_loaded_it,
)
from tests.support.kernel import requires

pytestmark = [pytest.mark.root, requires("cgroup v2")]
