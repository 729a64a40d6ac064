"""Rules once more, on the kernel of a distribution: that they are loaded as by nft, and stop what hides."""

import pytest
from tests.integration.test_firewall_batch import (
    netns as netns,
)
from tests.integration.test_firewall_batch import (
    test_nft_shows_the_same_as_if_it_had_loaded_it as test_nft_shows_the_same_as_if_it_had_loaded_it,
)
from tests.integration.test_firewall_forging_hidden import (
    test_groups_hold_whatever_a_frame_is_said_to_be as test_groups_hold_whatever_a_frame_is_said_to_be,
)
from tests.integration.test_firewall_forging_hidden import (
    test_what_is_forged_in_parts_does_not_leave_as_a_whole as test_what_is_forged_in_parts_does_not_leave_as_a_whole,
)
from tests.integration.test_firewall_forging_hidden import (
    vm as vm,
)
from tests.support.kernel import requires

pytestmark = [pytest.mark.root, requires("cgroup v2")]
