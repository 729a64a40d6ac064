"""The remedies that are safe: nothing of value can be lost by them."""

from onedock.config.settings import Settings
from onedock.doctor.finding import Finding
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import OnedockError


async def mend(settings: Settings, finding: Finding) -> str:
    """Do what ``finding.fix`` says; returns what was done, or why not."""
    if finding.fix is None:
        return ""
    node = settings.node(finding.fix.node)
    if node is None:
        return f"not mended: {finding.fix.node} is no node any more"
    try:
        async with AgentClient(node.agent) as agent:
            await agent.remove(finding.fix.vm)
    except OnedockError as error:
        return f"not mended: {error}"
    return f"removed namespace one-{finding.fix.vm} on node {finding.fix.node}"
