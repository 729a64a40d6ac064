"""What has to be done to a VM's network, decided from what is wanted and what was seen. Pure."""

from onedock.nodeside.agent.plan.bridge import is_our_bridge, is_our_uplink, is_unused
from onedock.nodeside.agent.plan.network import plan
from onedock.nodeside.agent.plan.trunk import plan_released_vlans

__all__ = ["is_our_bridge", "is_our_uplink", "is_unused", "plan", "plan_released_vlans"]
