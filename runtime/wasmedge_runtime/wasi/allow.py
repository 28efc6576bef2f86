"""Which network addresses a program may use: the rules of `allow_sockets`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import NamedTuple, TypeAlias

__all__ = ["Address", "AllowList"]

Address: TypeAlias = IPv4Address | IPv6Address

_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]*[a-z0-9])?)*")
_LAST_PORT = 65535
_LOCALHOST = "localhost"


class _Rule(NamedTuple):
    """Addresses of a network, or those that a name stands for; None is any."""

    network: IPv4Network | IPv6Network | None
    name: str | None
    ports: range


class AllowList:
    """Rules `ADDRESS:PORT`, each of which allows something.

    ADDRESS is an address, a network (`10.0.0.0/8`), a host's name, or `*`; an IPv6 one stands in
    brackets. PORT is a number, a range (`8000-8099`), or `*`, which port 0 needs: the system then
    chooses any. A name allows the program to look it up, and the public addresses that it then
    stands for: others need a rule of their own, because who answers for the name chooses them.
    Only `localhost` stands for loopback addresses.

    Raises:
        TypeError, ValueError: a rule is not of this form.
    """

    def __init__(self, rules: Iterable[str]) -> None:
        if isinstance(rules, str):
            raise TypeError("allow_sockets must be a sequence, not a single str")
        self._rules = [_parse(rule) for rule in rules]
        self._known: dict[Address, list[range]] = {}
        """What names stood for when the program looked them up."""

    @property
    def empty(self) -> bool:
        """Whether nothing is allowed."""
        return not self._rules

    def allows(self, address: Address, port: int) -> bool:
        """Whether the program may send to, connect to or listen at an address."""
        address = _plain(address)
        return any(port in ports for ports in self._known.get(address, ())) or any(
            port in rule.ports
            and rule.name is None
            and (rule.network is None or address in rule.network)
            for rule in self._rules
        )

    def allows_name(self, name: str) -> bool:
        """Whether the program may look a name up; an address is none."""
        name = name.lower()
        return any(
            rule.name == name or (rule.name is None and rule.network is None)
            for rule in self._rules
        )

    def learn(self, name: str, addresses: Iterable[Address]) -> None:
        """Note what a name stands for, as far as a rule for the name allows it."""
        name = name.lower()
        ports = [rule.ports for rule in self._rules if rule.name == name]
        for address in map(_plain, addresses if ports else ()):
            if not (_public(address) or (name == _LOCALHOST and address.is_loopback)):
                continue
            # Others may have the same one: several names of one server.
            known = self._known.setdefault(address, [])
            known += [one for one in ports if one not in known]

    def forget(self) -> None:
        """Forget what names stood for: a program that begins again looks them up again."""
        self._known.clear()


def _plain(address: Address) -> Address:
    """An IPv4 address in the clothes of IPv6 is the IPv4 address."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _public(address: Address) -> bool:
    """Whether it is somewhere in the internet: not this host, its networks, or a group."""
    return address.is_global and not address.is_multicast


def _parse(rule: str) -> _Rule:
    if not isinstance(rule, str):
        raise TypeError(f"a rule of allow_sockets must be a str, not {type(rule).__name__}")
    host, colon, port = rule.rpartition(":")
    if not colon:
        raise ValueError(f"a rule of allow_sockets is ADDRESS:PORT, not {rule!r}")
    ports = _parse_ports(rule, port)
    if host == "*":
        return _Rule(None, None, ports)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        network = ip_network(bare, strict=False)
    except ValueError:
        if not _NAME.fullmatch(bare.lower()) or bare != host:
            raise ValueError(f"no address, network or name: {host!r} in {rule!r}") from None
        return _Rule(None, bare.lower(), ports)
    if network.version == 6 and bare == host:
        raise ValueError(f"an IPv6 address stands in brackets: [{host}]:{port}")
    return _Rule(network, None, ports)


def _parse_ports(rule: str, text: str) -> range:
    if text == "*":
        return range(_LAST_PORT + 1)
    first, dash, last = text.partition("-")
    if first.isdecimal() and (last.isdecimal() or not dash):
        ports = range(int(first), int(last or first) + 1)
        if ports and ports[0] and ports[-1] <= _LAST_PORT:
            return ports
    raise ValueError(
        f"a port is 1 to {_LAST_PORT}, a range like 8000-8099, or *, which includes port 0, "
        f"any that the system chooses: {rule!r}"
    )
