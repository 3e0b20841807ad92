"""Callers are identified by a known key, else by their address, which the connection or a trusted proxy tells."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltoll.errors import CallerRefused
from modeltoll.gateway.callers.identify import CallerIdentifier, RequestIdentity, hash_key
from modeltoll.records import Caller

ALICE = Caller("key:alice")
CALLERS = CallerIdentifier({hash_key("secret"): ALICE})
PROXIES = CallerIdentifier(trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))


def name(identifier, peer, forwarded=None, authorization=None, api_key=None):
    return identifier.identify(RequestIdentity(authorization, api_key, peer, forwarded)).name


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer secret"},
        {"authorization": "bearer  secret "},
        {"api_key": "secret"},
        {"authorization": "Basic c2VjcmV0", "api_key": "secret"},
    ],
)
def test_a_known_key_names_its_caller(headers):
    assert name(CALLERS, "203.0.113.9", **headers) == "key:alice"


@pytest.mark.parametrize(
    "headers",
    [{"authorization": "Bearer Secret"}, {"api_key": "other"}, {"authorization": "Bearer o", "api_key": "secret"}],
)
def test_an_unknown_key_is_refused_even_where_anonymous_callers_are_allowed(headers):
    with pytest.raises(CallerRefused) as caught:
        name(CALLERS, "203.0.113.9", **headers)
    assert caught.value.status == 401
    assert not any(value in str(caught.value) for value in headers.values())


def test_a_missing_key_is_refused_where_anonymous_callers_are_not_allowed():
    closed = CallerIdentifier({hash_key("secret"): ALICE}, anonymous=False)
    for headers in ({}, {"authorization": "Basic x"}, {"authorization": "Bearer "}, {"api_key": ""}):
        with pytest.raises(CallerRefused, match="needed"):
            name(closed, "203.0.113.9", **headers)
    assert name(closed, "203.0.113.9", api_key="secret") == "key:alice"


@pytest.mark.parametrize(
    ("peer", "name_of_address"),
    [
        ("198.51.100.7", "net:198.51.100.7"),
        ("::ffff:198.51.100.7", "net:198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "net:2001:db8:1:2::/64"),
        ("fe80::1%eth0", "net:fe80::/64"),
    ],
)
def test_anonymous_callers_are_single_addresses(peer, name_of_address):
    caller = CALLERS.identify(RequestIdentity(None, None, peer, None))
    assert caller.name == name_of_address
    assert caller.anonymous


@pytest.mark.parametrize(
    ("peer", "groups"),
    [
        ("198.51.100.7", ("prefix:198.51.100.0/24", "prefix:198.51.0.0/16", "prefix:198.0.0.0/8")),
        ("::ffff:198.51.100.7", ("prefix:198.51.100.0/24", "prefix:198.51.0.0/16", "prefix:198.0.0.0/8")),
        ("2001:db8:1:2:3:4:5:6", ("prefix:2001:db8:1::/48", "prefix:2001:db8::/32")),
    ],
)
def test_anonymous_callers_share_their_network_and_the_wider_ones_that_are_set(peer, groups):
    callers = CallerIdentifier({hash_key("secret"): ALICE}, ipv4_prefixes=(16, 8), ipv6_prefixes=(32,))
    assert callers.identify(RequestIdentity(None, None, peer, None)).groups == groups
    assert callers.identify(RequestIdentity(None, "secret", peer, None)).groups == ()
    assert CALLERS.identify(RequestIdentity(None, None, peer, None)).groups == groups[:1]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("198.51.100.7", "203.0.113.1", "198.51.100.7"),  # nobody trusts the peer
        ("10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "192.0.2.1, 203.0.113.1", "203.0.113.1"),  # the rightmost untrusted hop
        ("10.0.0.1", "203.0.113.1, 10.9.9.9", "203.0.113.1"),  # two trusted proxies
        ("10.0.0.1", "192.0.2.1, 203.0.113.1, 10.9.9.9", "203.0.113.1"),
        ("10.0.0.1", "10.1.2.3, 10.9.9.9", "10.1.2.3"),  # all trusted: the farthest of them
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", " , ,", "10.0.0.1"),
        ("::ffff:10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("fd00::1", "2001:db8:1:2::5", "2001:db8:1:2::/64"),
        ("10.0.0.1", "::ffff:203.0.113.1", "203.0.113.1"),
    ],
)
def test_forwarded_for_counts_as_far_as_trusted_proxies_wrote_it(peer, forwarded, address):
    assert name(PROXIES, peer, forwarded) == f"net:{address}"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.7:51008", "203.0.113.7"),
        ("203.0.113.7:51008, 10.0.0.6", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.6:8080", "203.0.113.7"),
        ("[2001:db8:1:2::7]:443", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::7]", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::7%eth0]", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::7%eth0", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6:51008", "2001:db8:1:2::/64"),
        ("[::ffff:203.0.113.7]:443", "203.0.113.7"),
        ("  203.0.113.7\t,", "203.0.113.7"),
    ],
)
def test_addresses_are_read_with_ports_brackets_zones_and_padding(forwarded, address):
    assert name(PROXIES, "10.0.0.1", forwarded) == f"net:{address}"


@pytest.mark.parametrize(
    "entry",
    [
        "unknown",
        "_hidden",
        "203.0.113.007",
        "203.0.113.7:port",
        "[203.0.113.7",
        "203.0.113.7]:1",
        "host.example",
        "a b",
        "1.2.3",
    ],
)
def test_an_entry_that_cannot_be_read_ends_the_walk_at_the_proxy_that_wrote_it(entry):
    assert name(PROXIES, "10.0.0.1", entry) == "net:10.0.0.1"
    assert name(PROXIES, "10.0.0.1", f"192.0.2.1, {entry}") == "net:10.0.0.1"
    assert name(PROXIES, "10.0.0.1", f"192.0.2.1, {entry}, 10.0.0.9") == "net:10.0.0.9"
    assert name(PROXIES, "10.0.0.1", f"{entry}, 203.0.113.1") == "net:203.0.113.1"


@pytest.mark.parametrize("peer", ["", "testclient", "unix"])
def test_peers_without_an_address_are_one_anonymous_caller_or_a_proxy_where_the_settings_say_so(peer):
    caller = CALLERS.identify(RequestIdentity(None, None, peer, "203.0.113.1"))
    assert (caller.name, caller.groups, caller.anonymous) == ("net:unix", (), True)
    trusting = CallerIdentifier(trusts_unix=True)
    assert name(trusting, peer, "192.0.2.1, 203.0.113.1") == "net:203.0.113.1"
    assert name(trusting, peer) == "net:unix"
    assert name(trusting, peer, "unknown") == "net:unix"
    assert name(trusting, peer, "203.0.113.1, unix:") == "net:203.0.113.1"
    assert name(PROXIES, "10.0.0.1", "203.0.113.1, unix:") == "net:unix"


def forwarded_name(forwarded, forwarded_for=None):
    return PROXIES.identify(RequestIdentity(None, None, "10.0.0.1", forwarded_for, forwarded)).name


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("for=203.0.113.7", "203.0.113.7"),
        ('for="203.0.113.7:51008";proto=https', "203.0.113.7"),
        ('by=10.0.0.1;FOR="[2001:db8:1:2::7]:443"; host="a,b;c"', "2001:db8:1:2::/64"),
        ("for=203.0.113.7:51008", "203.0.113.7"),  # not quoted, as some proxies write it
        ("for=192.0.2.1, for=203.0.113.7, for=10.0.0.6", "203.0.113.7"),
        ("for=192.0.2.1, for=unknown", "10.0.0.1"),
        ("for=192.0.2.1, for=_hidden;proto=http", "10.0.0.1"),
        ("for=192.0.2.1, proto=https", "10.0.0.1"),
        ("for=192.0.2.1, for=203.0.113.7;for=192.0.2.2", "10.0.0.1"),
        ("for=192.0.2.1, for=203.0.113.7 for=192.0.2.2", "10.0.0.1"),
        ('for=192.0.2.1;x=", for=203.0.113.7', "203.0.113.7"),  # the caller's open quote reaches nothing
        ('for=192.0.2.1;x=", for="[2001:db8:1:2::7]:443"', "2001:db8:1:2::/64"),
        ('for=192.0.2.1;x="\\, for="203.0.113.7"', "203.0.113.7"),
        ('for=192.0.2.1, for="203.0.113.7";host="a\\",b"', "203.0.113.7"),
        ("for=", "10.0.0.1"),
        (" , ", "10.0.0.1"),
    ],
)
def test_forwarded_is_read_from_the_right(forwarded, address):
    assert forwarded_name(forwarded) == f"net:{address}"


@pytest.mark.parametrize("forged", ["10.0.0.1," * 6000, '"' * 60_000, '\\"' * 30_000, "for=" + "a=" * 30_000])
def test_a_long_header_is_read_from_its_right_end_only(forged):
    assert name(PROXIES, "10.0.0.1", f"{forged}, 203.0.113.1") == "net:203.0.113.1"
    assert forwarded_name(f"{forged}, for=203.0.113.1") == "net:203.0.113.1"
    assert forwarded_name(forged) == "net:10.0.0.1"
    chain = "203.0.113.1" + ", 10.0.0.2" * 31
    assert name(PROXIES, "10.0.0.1", chain) == "net:203.0.113.1"
    assert name(PROXIES, "10.0.0.1", f"{chain}, 10.0.0.3") == "net:10.0.0.2"


def test_headers_that_do_not_agree_name_nobody_but_the_peer():
    """A proxy writes one of them, and passes on the other as its caller wrote it."""
    assert forwarded_name("for=203.0.113.7", "203.0.113.7:1") == "net:203.0.113.7"
    assert forwarded_name("for=192.0.2.1", "203.0.113.7") == "net:10.0.0.1"
    assert forwarded_name("for=203.0.113.7", "192.0.2.1") == "net:10.0.0.1"


@given(forged=st.text(alphabet='for=12.,;"\\ []:unknow', max_size=60))
def test_nothing_that_a_caller_writes_into_forwarded_changes_its_address(forged):
    for appended in ("for=203.0.113.1", 'for="203.0.113.1:5";proto=http;host="a\\"b"'):
        assert forwarded_name(f"{forged}, {appended}") == "net:203.0.113.1"


def test_without_trusted_proxies_the_header_means_nothing():
    assert name(CALLERS, "10.0.0.1", "garbage, 203.0.113.1") == "net:10.0.0.1"


@given(forged=st.lists(st.ip_addresses().map(str) | st.text(max_size=20), max_size=5))
def test_no_header_of_a_caller_changes_its_address(forged):
    """What a trusted proxy appended last is the caller's own address, whatever stood there before."""
    header = ", ".join([*forged, "203.0.113.1"])
    assert name(PROXIES, "10.0.0.1", header) == "net:203.0.113.1"
