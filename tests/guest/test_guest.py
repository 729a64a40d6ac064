"""The guest is what the other tests here take it for."""

import pytest
from tests.support.kernel import FEATURES, requires

pytestmark = pytest.mark.root


@pytest.mark.parametrize("feature", [pytest.param(name, marks=requires(name)) for name in FEATURES])
def test_what_is_required_is_there(feature: str) -> None:
    assert FEATURES[feature]()
