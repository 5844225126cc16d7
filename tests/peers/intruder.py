"""A hostile SSH client: what it sends is its own business, message by message. One line of JSON for each thing it tried.

    intruder.py MODE HOST PORT USER KEY [ARGUMENT...]

MODE is `early` (messages before it has logged in), `reach` (everything that could lead somewhere on the bastion: the arguments
are HOST:PORT or a socket's path), or `abuse` (channels and windows without end).
"""

import json
import socket
import sys
import threading
import time

import paramiko
from paramiko import Message
from paramiko.common import byte_chr

mode, host, port, user, key = sys.argv[1:6]
arguments = sys.argv[6:]


saying = threading.Lock()


def say(case, outcome):
    with saying:
        print(json.dumps({"case": case, "outcome": outcome}), flush=True)


def connect(login=True):
    transport = paramiko.Transport(socket.create_connection((host, int(port)), timeout=40))
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = 40
    transport.start_client(timeout=40)
    if login:
        transport.auth_publickey(user, paramiko.Ed25519Key.from_private_key_file(key))
    return transport


def living(transport):
    """The transport, or another one when the bastion has ended it: the next thing is tried all the same."""
    if transport.is_active():
        return transport
    if successors.get(transport) is None or not successors[transport].is_active():
        successors[transport] = connect()
    return successors[transport]


successors = {}
# What an ended connection raises, at whatever moment it is noticed.
ENDED = (paramiko.SSHException, EOFError, OSError)


def sent(transport, built):
    """False when the bastion has ended the connection, which it may do at any moment."""
    try:
        transport._send_user_message(built)
        return True
    except ENDED:
        return False


def message(number, *parts):
    built = Message()
    built.add_byte(byte_chr(number))
    for part in parts:
        if isinstance(part, bool):
            built.add_boolean(part)
        elif isinstance(part, int):
            built.add_int(part)
        elif isinstance(part, str):
            built.add_string(part)
        else:
            built.add_bytes(part)
    return built


def opening(transport, kind, *parts, window=1 << 21, packet=32768):
    """Asks for a channel: `opened` with it, or why not."""
    transport = living(transport)
    with transport.lock:
        number = transport._next_channel()
        channel = paramiko.Channel(number)
        transport._channels.put(number, channel)
        transport.channel_events[number] = event = threading.Event()
        transport.channels_seen[number] = True
        channel._set_transport(transport)
        channel._set_window(1 << 21, 32768)
    transport.saved_exception = None
    if not sent(transport, message(90, kind, number, window, packet, *parts)):
        return "disconnected", None
    deadline = time.monotonic() + 20
    while not event.wait(0.05) and transport.is_active() and time.monotonic() < deadline:
        pass
    if not transport.is_active():
        return "disconnected", None
    if not event.is_set():
        return "no answer", None
    if transport._channels.get(number) is not None:
        return "opened", channel
    return f"refused: {transport.saved_exception}", None


def asked(transport, case, name, *parts):
    """A global request, and what came back."""
    transport = living(transport)
    transport.completion_event = threading.Event()
    there = sent(transport, message(80, name, True, *parts))
    while there and transport.is_active() and not transport.completion_event.wait(0.05):
        pass
    say(case, "granted" if there and transport.is_active() and transport.global_response is not None else "refused")


def early():
    """Each with a plausible rest; the login is not begun, or is begun and not finished."""
    bodies = {
        6: [b"\0\0\0\x0cssh-userauth"],
        30: [b"\0\0\0\x20" + b"\1" * 32],
        50: [user, "ssh-connection", "password", False, "secret"],
        51: ["publickey", False],
        52: [],
        53: ["hello", "en"],
        60: [0],
        61: [1, "x"],
        63: ["x"],
        80: ["tcpip-forward", True, "api", 0],
        81: [],
        82: [],
        90: ["session", 0, 1 << 21, 32768],
        91: [0, 0, 1 << 21, 32768],
        92: [0, 1, "x", "en"],
        93: [0, 0xFFFFFFFF],
        94: [0, "data"],
        95: [0, 1, "data"],
        96: [0],
        97: [0],
        98: [0, "shell", True],
        99: [0],
        100: [0],
        192: [],
        255: [],
    }
    def one(number, parts, begun):
        transport = connect(login=False)
        try:
            if begun:
                transport._send_message(message(5, "ssh-userauth"))
            transport._send_message(message(number, *parts))
            transport._send_message(message(90, "session", 7, 1 << 21, 32768))
            transport._send_message(message(80, "tcpip-forward", True, "early", 0))
            deadline = time.monotonic() + 3
            while transport.is_active() and time.monotonic() < deadline:
                time.sleep(0.05)
            outcome = "open" if transport.is_active() else "closed"
        except ENDED as why:
            outcome = f"closed: {why}"
        transport.close()
        say(f"{number} {'in' if begun else 'before'} the login", outcome)

    threads = [
        threading.Thread(target=one, args=(number, parts, begun)) for begun in (False, True) for number, parts in bodies.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # As many passwords as are taken.
    transport = connect(login=False)
    tries = 0
    try:
        while tries < 50:
            tries += 1
            try:
                transport.auth_password(user, f"guess-{tries}")
                say("password", "logged in")
            except paramiko.BadAuthenticationType:
                pass
    except ENDED:
        pass
    transport.close()
    say("passwords", tries)


def reach():
    transport = connect()
    hosts = [target.rsplit(":", 1) for target in arguments if ":" in target]
    paths = [target for target in arguments if ":" not in target]
    for name, number in hosts:
        for kind in ("direct-tcpip", "forwarded-tcpip"):
            for origin in ("127.0.0.1", "169.254.169.254", ""):
                say(f"{kind} {name} {number} {origin}", opening(transport, kind, name, int(number), origin, 22)[0])
    for path in paths:
        for kind in ("direct-streamlocal@openssh.com", "forwarded-streamlocal@openssh.com"):
            say(f"{kind} {path}", opening(transport, kind, path, "", 0)[0])
    for kind, parts in {
        "x11": ["127.0.0.1", 6000],
        "auth-agent@openssh.com": [],
        "auth-agent": [],
        "tun@openssh.com": [2, 0x7FFFFFFF],
        "ephemwork-control": [],
        "": [],
        "session" * 1000: [],
    }.items():
        say(f"channel {kind[:30]!r}", opening(transport, kind, *parts)[0])
    for name in (b"sftp", b"../ephemwork-control", b"ephemwork-control\0", b"EPHEMWORK-CONTROL", b"ephemwork-admin", b"", b"\xff\xfe"):
        found, channel = opening(transport, "session")
        if channel is None:
            say(f"subsystem {name!r}", found)
            continue
        say(f"subsystem {name!r}", request(channel, "subsystem", name))
        channel.close()
    for kind, parts in {
        "shell": [],
        "exec": ["cat /proc/self/environ"],
        "pty-req": ["xterm", 80, 24, 0, 0, ""],
        "env": ["LD_PRELOAD", "/tmp/x.so"],
        "x11-req": [False, "MIT-MAGIC-COOKIE-1", "00", 0],
        "auth-agent-req@openssh.com": [],
        "signal": ["KILL"],
        "break": [1],
    }.items():
        found, channel = opening(transport, "session")
        if channel is None:
            say(f"request {kind}", found)
            continue
        granted = request(channel, kind, *parts)
        channel.settimeout(5)
        try:
            out = channel.recv(65536).decode(errors="replace")
        except TimeoutError:
            out = ""
        say(f"request {kind}", f"{granted}; out {out!r}")
        channel.close()
    # A remote forward binds nothing on the bastion, whatever it asks for.
    for number, address in enumerate(["", "0.0.0.0", "127.0.0.1", "localhost", "::", "*", "169.254.169.254", "bob:web", "../api", "a" * 65]):
        asked(transport, f"tcpip-forward {address}", "tcpip-forward", address, 20022 + number)
    for path in paths:
        asked(transport, f"streamlocal-forward {path}", "streamlocal-forward@openssh.com", path)
    for name in ("cancel-tcpip-forward", "hostkeys-prove-00@openssh.com", "no-more-sessions@openssh.com", "nothing"):
        asked(transport, f"global {name}", name, "api", 0)
    transport.close()


def request(channel, kind, *parts):
    channel.event.clear()
    channel.event_ready = False
    if not sent(channel.transport, message(98, channel.remote_chanid, kind, True, *[_string(part) for part in parts])):
        return "refused"
    deadline = time.monotonic() + 20
    while not channel.event.wait(0.05) and not channel.closed and time.monotonic() < deadline:
        pass
    return "granted" if channel.event_ready else "refused"


def _string(part):
    if isinstance(part, bytes):
        return len(part).to_bytes(4, "big") + part
    return part


def abuse():
    transport = connect()
    # A channel that nobody holds is closed, so all are held.
    held = [opening(transport, "session") for _ in range(40)]
    say("idle channels", sum(found == "opened" for found, _ in held))
    transport.close()
    for name in ("ephemwork-control", "ephemwork-requests", "ephemwork-measure"):
        transport = connect()
        granted, held = 0, []
        for _ in range(40):
            found, channel = opening(transport, "session") if transport.is_active() else ("disconnected", None)
            if channel is not None:
                held.append(channel)
                granted += request(channel, "subsystem", name) == "granted"
        say(name, granted)
        transport.close()
    cases = {
        "data for no channel": [message(94, 4711, "x" * 1000)] * 50,
        "a window for no channel": [message(93, 4711, 1 << 20)] * 50,
        "a window beyond 32 bits": [message(93, 0, 0xFFFFFFFF)] * 50,
        "data after the end": [message(96, 0)] + [message(94, 0, "x" * 30000)] * 50,
        "closed twice": [message(97, 0)] * 50,
        "confirmations of nothing": [message(91, 9, 9, 1 << 21, 32768)] * 50,
        "failures of nothing": [message(92, 9, 1, "x", "en")] * 50,
        "answers to nothing": [message(81), message(82), message(99, 0), message(100, 0)] * 50,
        "more data than the window": [message(94, 0, "x" * 32000)] * 2000,
        "a packet larger than agreed on": [message(94, 0, "x" * 200000)] * 20,
        "requests without end": [message(98, 0, "r%d" % number, False) for number in range(5000)],
        "global requests without end": [message(80, "g%d" % number, True) for number in range(5000)],
        "channels without end": [message(90, "session", number, 1 << 21, 32768) for number in range(5000)],
        "channels of no packet": [message(90, "session", number, 0, 0) for number in range(100)],
        "a cut message": [message(94, 0, b"\xff\xff\xff\xff")],
        "a list that is longer than its message": [message(80, b"\x7f\xff\xff\xff")],
    }
    for case, messages in cases.items():
        transport = connect()
        opening(transport, "session", window=0xFFFFFFFF)
        try:
            for one in messages:
                transport._send_message(one)
            # Whoever is still there answers.
            transport.completion_event = threading.Event()
            transport._send_message(message(80, "are-you-there", True))
            deadline = time.monotonic() + 20
            while transport.is_active() and not transport.completion_event.wait(0.05) and time.monotonic() < deadline:
                pass
            say(case, "open" if transport.is_active() else "closed")
        except ENDED as why:
            say(case, f"closed: {why}")
        transport.close()


{"early": early, "reach": reach, "abuse": abuse}[mode]()
