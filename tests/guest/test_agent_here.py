"""The agent's own tests once more, on the kernel of a distribution instead of that of the machine."""

import pytest
from tests.integration.test_agent_network import (
    test_nics_come_move_and_go as test_nics_come_move_and_go,
)
from tests.integration.test_agent_network import (
    test_two_nics_in_one_subnet_and_ipv6 as test_two_nics_in_one_subnet_and_ipv6,
)
from tests.integration.test_agent_network import (
    test_two_vms_reach_each_other_at_once as test_two_vms_reach_each_other_at_once,
)
from tests.support.kernel import requires

pytestmark = [pytest.mark.root, requires("cgroup v2")]
