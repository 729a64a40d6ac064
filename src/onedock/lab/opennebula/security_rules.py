"""RULE vectors of a security group: what OpenNebula accepts (src/secgroup of OpenNebula 7.4). Pure."""

import ipaddress
import re

from onedock.lab.opennebula.templates import Template, Value, Vector

_PROTOCOLS = ("TCP", "UDP", "ICMP", "ICMPV6", "IPSEC", "ALL")
_RANGE = re.compile(r"(\d+|\d+:\d+)(,(\d+|\d+:\d+))*", re.ASCII)
_TYPES = ("INBOUND", "OUTBOUND")
MAX_PORT = 65535
MAX_PORTS = 15
"""In one rule; a range counts for two."""


class RuleError(Exception):
    """A rule makes no sense; the message is what oned answers."""


def checked(attributes: Template) -> Template:
    """The attributes with every rule once.

    Raises:
        RuleError: A rule makes no sense.
    """
    rules: list[Value] = []
    for rule in attributes.get("RULE", []):
        if not isinstance(rule, dict):
            raise RuleError("RULE must be a vector attribute.")
        _check(rule)
        if rule not in rules:
            rules.append(rule)
    return attributes | {"RULE": rules} if rules else attributes


def _check(rule: Vector) -> None:
    protocol = rule.get("PROTOCOL", "").upper()
    if protocol not in _PROTOCOLS:
        raise RuleError("Wrong PROTOCOL in rule. Valid options: TCP, UDP, ICMP, ICMPV6, IPSEC, ALL.")
    if ports := rule.get("RANGE", ""):
        _check_ports(ports, protocol)
    for name, owner in (("ICMP_TYPE", "ICMP"), ("ICMPV6_TYPE", "ICMPV6")):
        if text := rule.get(name, ""):
            if protocol != owner:
                raise RuleError(f"{name} is supported only for {owner} protocol.")
            if not text.isdecimal():
                raise RuleError(f"Wrong {name}, it must be integer")
    if rule.get("RULE_TYPE", "").upper() not in _TYPES:
        raise RuleError("Wrong RULE_TYPE in rule. Valid options: INBOUND, OUTBOUND.")
    if address := rule.get("IP", ""):
        if not rule.get("SIZE", "").isdecimal():
            raise RuleError("Wrong or empty SIZE.")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise RuleError("Wrong format for IP value.") from None
    elif not rule.get("NETWORK_ID", "0").isdecimal():
        raise RuleError("Wrong NETWORK_ID.")


def _check_ports(ports: str, protocol: str) -> None:
    if protocol not in ("TCP", "UDP"):
        raise RuleError("RANGE is supported only for TCP and UDP protocols.")
    if not _RANGE.fullmatch(ports):
        raise RuleError("Invalid RANGE specification.")
    ranges = [[int(end) for end in part.split(":")] for part in ports.split(",")]
    if any(end > MAX_PORT for ends in ranges for end in ends):
        raise RuleError("RANGE out of bounds 0-65536.")
    if any(ends[0] > ends[-1] for ends in ranges):
        raise RuleError("RANGE BEGIN value is greater than RANGE END value")
    if sum(map(len, ranges)) > MAX_PORTS:
        raise RuleError("Not more than 15 ports can be specified in a RULE")
