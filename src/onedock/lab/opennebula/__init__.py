"""The lab's own OpenNebula: oned, monitord, one_tm, one_datastore and a scheduler as one small process.

It runs the unchanged drivers over real pipes and the unchanged transfer and datastore scripts as forks, and answers
the XML-RPC subset that ONEDock and its walkthrough use. What it does was recorded from OpenNebula 7.4; see
``tests/integration/test_fixture_replay.py``.
"""
