"""SIGKILL of every process at named points of a deploy and of a terminate: OpenNebula and the node agree afterwards.

After every crash the VM reaches its state without ``onevm recover``, there is exactly one container (the same one if it
existed), OpenNebula has taken exactly one answer to each request, and a terminate leaves nothing.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
import pytest_asyncio
from tests.support.crash_points import Moment, Point
from tests.support.crash_scene import Crash, Scene, Stage, Victim
from tests.support.engine import PrivateEngine
from tests.support.registry import PrivateRegistry

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

BEFORE, REPLY_LOST, AFTER = Moment


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(engine: PrivateEngine, registry: PrivateRegistry) -> AsyncIterator[Stage]:
    async with Stage(engine, registry) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def scene(stage: Stage) -> Scene:
    return await stage.scene()


def crashes(victim: Victim, *points: tuple[str, Moment]) -> Iterator[Crash]:
    return (Crash(Point(name, moment), victim) for name, moment in points)


PULL = "POST /images/create"
NETWORK = "PUT /vms/*/network"
CREATE = "POST /containers/create"
BIND = "PUT /vms/*/containers/*"
START = "POST /containers/*/start"
STOP = "POST /containers/*/stop"
UNPLUG = "DELETE /vms/*"
REMOVE = "DELETE /containers/*"

DEPLOY_CALLS = (NETWORK, CREATE, BIND, START)
DEPLOY_MESSAGES = ("line DEPLOY", "ack DEPLOY", "outcome DEPLOY", "delivered DEPLOY")
PROLOG_MESSAGES = ("request clone", "result clone")
END_CALLS = (STOP, UNPLUG)
END_MESSAGES = ("line SHUTDOWN", "ack SHUTDOWN")
EPILOG_CALLS = (REMOVE,)
EPILOG_MESSAGES = ("outcome SHUTDOWN", "delivered SHUTDOWN", "request delete", "result delete")

DEPLOYS = [
    *crashes(
        Victim.CONTROLLER,
        ("request clone", AFTER),
        ("result clone", BEFORE),
        (PULL, BEFORE),
        (PULL, REPLY_LOST),
        ("line DEPLOY", BEFORE),
        ("line DEPLOY", AFTER),
        ("ack DEPLOY", BEFORE),
        (NETWORK, BEFORE),
        (NETWORK, REPLY_LOST),
        (CREATE, BEFORE),
        (CREATE, REPLY_LOST),
        (BIND, REPLY_LOST),
        (START, BEFORE),
        (START, REPLY_LOST),
        ("outcome DEPLOY", BEFORE),
        ("outcome DEPLOY", AFTER),
        ("delivered DEPLOY", BEFORE),
    ),
    *crashes(
        Victim.DRIVER,
        ("line DEPLOY", BEFORE),
        ("ack DEPLOY", BEFORE),
        ("outcome DEPLOY", BEFORE),
        ("outcome DEPLOY", AFTER),
        ("delivered DEPLOY", BEFORE),
    ),
    *crashes(Victim.AGENT, (NETWORK, BEFORE), (NETWORK, REPLY_LOST), (BIND, REPLY_LOST)),
    *crashes(
        Victim.DOCKERD,
        (PULL, REPLY_LOST),
        (CREATE, BEFORE),
        (CREATE, REPLY_LOST),
        (START, BEFORE),
        (START, REPLY_LOST),
    ),
    *crashes(Victim.OPENNEBULA, ("ack DEPLOY", AFTER), ("outcome DEPLOY", BEFORE), ("delivered DEPLOY", AFTER)),
]
ENDS = [
    *crashes(
        Victim.CONTROLLER,
        ("line SHUTDOWN", BEFORE),
        (STOP, BEFORE),
        (STOP, REPLY_LOST),
        (UNPLUG, REPLY_LOST),
        ("outcome SHUTDOWN", BEFORE),
        ("delivered SHUTDOWN", BEFORE),
        ("request delete", AFTER),
        (REMOVE, BEFORE),
        (REMOVE, REPLY_LOST),
        ("result delete", BEFORE),
    ),
    *crashes(Victim.DRIVER, ("line SHUTDOWN", BEFORE), ("outcome SHUTDOWN", BEFORE), ("delivered SHUTDOWN", BEFORE)),
    *crashes(Victim.AGENT, (UNPLUG, BEFORE), (UNPLUG, REPLY_LOST)),
    *crashes(Victim.DOCKERD, (STOP, BEFORE), (STOP, REPLY_LOST), (REMOVE, REPLY_LOST)),
    *crashes(Victim.OPENNEBULA, ("line SHUTDOWN", AFTER), ("outcome SHUTDOWN", BEFORE)),
]


@pytest.mark.parametrize("crash", DEPLOYS, ids="deploy-{}".format)
async def test_a_crash_in_a_deploy(scene: Scene, crash: Crash) -> None:
    image = await scene.new_image() if crash.point.name == PULL else scene.image
    async with scene.crash(crash):
        vm = await scene.cloud.vm(image)
    await scene.deployed(vm)
    await scene.terminate(vm)


@pytest.mark.parametrize("crash", ENDS, ids="terminate-{}".format)
async def test_a_crash_in_a_terminate(scene: Scene, crash: Crash) -> None:
    vm = await scene.cloud.running_vm(scene.image)
    async with scene.crash(crash):
        await scene.ask_to_end(vm)
    await scene.ended(vm)


def every(*, calls: Sequence[str], messages: Sequence[str], spared: Sequence[Victim] = ()) -> list[Crash]:
    """Each victim at each moment of these calls and messages."""
    points = [Point(name, moment) for name in calls for moment in Moment]
    points += [Point(name, moment) for name in messages for moment in (BEFORE, AFTER)]
    return [Crash(point, victim) for point in points for victim in Victim if victim not in spared]


# oned forgets a transfer that runs when it dies: such a VM needs `onevm recover`, whatever the drivers do. After the
# answer to SHUTDOWN it is at once in the EPILOG's transfer.
ALL_DEPLOYS = [
    *every(calls=DEPLOY_CALLS, messages=DEPLOY_MESSAGES),
    *every(calls=(), messages=PROLOG_MESSAGES, spared=[Victim.OPENNEBULA]),
]
ALL_ENDS = [
    *every(calls=END_CALLS, messages=END_MESSAGES),
    *every(calls=EPILOG_CALLS, messages=EPILOG_MESSAGES, spared=[Victim.OPENNEBULA]),
]


async def test_twenty_random_crashes(scene: Scene) -> None:
    """Ten lives; in each the deploy and the terminate are hit."""
    chosen = random.Random(20)
    for _ in range(10):
        async with scene.crash(chosen.choice(ALL_DEPLOYS)):
            vm = await scene.cloud.vm(scene.image)
        await scene.deployed(vm)
        async with scene.crash(chosen.choice(ALL_ENDS)):
            await scene.ask_to_end(vm)
        await scene.ended(vm)


@pytest.mark.parametrize("victim", [Victim.CONTROLLER, Victim.AGENT, Victim.DOCKERD, Victim.DRIVER, Victim.OPENNEBULA])
async def test_a_connection_into_the_vm_outlives_everything_around_it(scene: Scene, victim: Victim) -> None:
    vm = await scene.cloud.running_vm(scene.image)
    before = scene.cloud.container(vm)
    assert before is not None

    enough = asyncio.Event()

    async with scene.conversation(vm) as say:

        async def talk() -> None:
            await say("hello")
            while not enough.is_set():
                await say("still here?")

        talking = asyncio.create_task(talk())
        scene.kill(victim)
        await scene.revive(victim)
        await scene.deployed(vm)
        enough.set()
        await talking
    after = scene.cloud.container(vm)
    assert after is not None
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
    await scene.terminate(vm)
