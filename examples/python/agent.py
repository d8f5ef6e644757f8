#!/usr/bin/env python3
"""A whole client of Control in one file, written from protocol.md alone. Python 3.9 or newer; nothing to install.

    CONTROL_URL=ws://127.0.0.1:3001 CONTROL_API_KEY=ctl_agt_... python3 examples/python/agent.py

CONTROL_CLIENT_TYPE is `agent` (the default) or `gateway`. CONTROL_STATE_FILE (`control-state.json`) keeps the last view,
which has private keys in it: mode 0600. To make it do something, fill in `apply`. It ends with exit code 1 when it must
not come back.
"""
import base64, hashlib, json, os, random, re, signal, socket, ssl, struct, sys, time
from urllib.parse import urlsplit

CLIENT_TYPE = os.environ.get("CONTROL_CLIENT_TYPE", "agent")
STATE_FILE = os.environ.get("CONTROL_STATE_FILE", "control-state.json")
URL = os.environ.get("CONTROL_URL", "ws://127.0.0.1:3001")
STOP = {4400, 4403, 4409, 4410}


def log(text):
    print(time.strftime("%Y-%m-%dT%H:%M:%S"), text, flush=True)


def apply(state):
    """Puts a view into force; raises if that cannot be done. Here WireGuard would be configured."""
    log(f"revision {state['revision']}: {len(state['view']['tunnels'])} tunnels")


class Lost(Exception):
    """The connection is over: a close code, or 1006 when there was none."""

    def __init__(self, code, reason=""):
        super().__init__(reason)
        self.code, self.reason = code, reason


class WebSocket:
    """As much of RFC 6455 as a client needs: text frames both ways, pings answered, closes heard."""

    def __init__(self, url, subprotocol):
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        try:
            self.sock = socket.create_connection((parts.hostname, port), timeout=10)
            if parts.scheme == "wss":
                self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=parts.hostname)
            self.buffer, self.parts = bytearray(), []
            self.shake_hands(parts, port, subprotocol)
        except OSError as error:
            raise Lost(1006, str(error)) from error

    def shake_hands(self, parts, port, subprotocol):
        key = base64.b64encode(os.urandom(16)).decode()
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.sock.sendall((
            f"GET {parts.path or '/'}?type={CLIENT_TYPE} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        ).encode())
        while b"\r\n\r\n" not in self.buffer:
            self.read_some()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        if " 101 " not in status + " ":
            raise Lost(1006, f"the upgrade was refused: {status} {rest.decode('utf-8', 'replace')}")
        if headers.get("sec-websocket-accept") != accept or headers.get("sec-websocket-protocol") != subprotocol:
            raise Lost(1006, f"the server does not speak {subprotocol}")

    def read_some(self):
        data = self.sock.recv(65536)
        if not data:
            raise Lost(1006, "the connection was cut")
        self.buffer += data

    def frame(self):
        """One frame out of the buffer, or None as long as it is not whole: (is final, opcode, payload)."""
        data = self.buffer
        if len(data) < 2:
            return None
        length, start = data[1] & 0x7F, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(data) < 2 + size:
                return None
            length, start = int.from_bytes(data[2:2 + size], "big"), 2 + size
        if len(data) < start + length:
            return None
        payload = bytes(data[start:start + length])
        first = data[0]
        del data[:start + length]
        return bool(first & 0x80), first & 0x0F, payload

    def receive(self, deadline):
        """The next text message, "" for a ping or pong, None when the deadline (monotonic) has passed."""
        while True:
            whole = self.frame()
            if whole is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.sock.settimeout(left)
                try:
                    self.read_some()
                except (TimeoutError, socket.timeout):
                    return None
                except OSError as error:
                    raise Lost(1006, str(error)) from error
                continue
            final, opcode, payload = whole
            if opcode == 8:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                self.send(8, payload[:2])
                raise Lost(code, payload[2:].decode("utf-8", "replace"))
            if opcode == 9:
                self.send(10, payload)
            if opcode > 8:
                return ""
            self.parts.append(payload)
            if final:
                text, self.parts = b"".join(self.parts).decode(), []
                return text

    def send(self, opcode, payload):
        """Frames of a client are masked."""
        mask, length = os.urandom(4), len(payload)
        head = bytes([0x80 | opcode, 0x80 | length]) if length < 126 else (
            struct.pack("!BBH", 0x80 | opcode, 0xFE, length) if length < 65536
            else struct.pack("!BBQ", 0x80 | opcode, 0xFF, length))
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.sock.settimeout(10)
        try:
            self.sock.sendall(head + mask + masked)
        except OSError as error:
            # After a close there is nobody to be told.
            if opcode != 8:
                raise Lost(1006, str(error)) from error

    def say(self, type, data):
        self.send(1, json.dumps({"type": type, "data": data}).encode())


class Client:
    """What is in force, over all connections: {timeline, revision, view}, or None before the first config."""

    def __init__(self):
        self.in_force = load()
        self.attempts = 0
        if self.in_force is not None:
            try:
                # What is on disk is in force before the first connection.
                apply(self.in_force)
            except Exception as error:
                log(f"the stored view cannot be applied: {error}")
                self.in_force = None

    def run(self):
        while True:
            self.ready_at = self.drain = None
            try:
                self.converse(WebSocket(URL, "control.v1"))
            except Lost as lost:
                if lost.code in STOP:
                    log(f"closed with {lost.code} {lost.reason}: not coming back")
                    return 1
                if self.ready_at is not None and time.monotonic() - self.ready_at >= 60:
                    self.attempts = 0
                seconds = self.back_off(lost.code)
                # A drain is no failure: if the attempt after it is one, it is the first.
                self.attempts = self.attempts + 1 if self.drain is None else 0
                log(f"closed with {lost.code} {lost.reason}: back in {seconds:.3f} seconds")
                time.sleep(seconds)

    def back_off(self, code):
        """The table of close codes in protocol.md; full jitter."""
        if code == 4401:
            return random.uniform(60, 300)
        if code == 4429:
            return random.uniform(60, 70)
        return random.uniform(0, min(60, 2 ** min(self.attempts, 6))) if self.drain is None else self.drain / 1000

    def converse(self, ws):
        """Until the connection is lost."""
        self.ws, self.held, self.asked_at = ws, self.in_force, float("-inf")
        resume = {} if self.held is None else {"resume": {key: self.held[key] for key in ("timeline", "revision")}}
        ws.say("auth", {"apiKey": os.environ["CONTROL_API_KEY"], "clientVersion": "example-python/1", **resume})
        self.interval, self.next_beat = 8, float("inf")  # Until the server names one: 20 seconds of patience.
        heard_at = time.monotonic()
        try:
            while True:
                dead_at = heard_at + 2.5 * self.interval
                text = ws.receive(min(dead_at, self.next_beat))
                now = time.monotonic()
                if text is not None:
                    heard_at = now
                    if text:
                        self.hear(json.loads(text))
                elif now >= dead_at:
                    raise Lost(1006, "no frame for 2.5 intervals")
                if now >= self.next_beat:
                    ws.say("heartbeat", {"timestamp": int(time.time() * 1000)})
                    self.next_beat = now + self.interval * random.uniform(0.9, 1.1)
        finally:
            ws.sock.close()

    def hear(self, message):
        name, data = message["type"], message["data"]
        step = re.fullmatch(r"(agent|gateway|tunnel|certificate)_(create|update|delete)", name)
        if step:
            self.step(message, step[1] + "s", step[2])
        elif name == "config":
            self.asked_at = float("-inf")
            self.take({"timeline": message["timeline"], "revision": message["revision"], "view": view_of(data)})
        elif name == "heartbeat_ack":
            if self.held is None or self.held["revision"] < data["revision"]:
                self.resync("behind the heartbeat_ack")
        elif name == "drain":
            self.drain = data["reconnectAfterMs"]
        elif name == "error":
            log(f"{name}: {data['message']}")
        elif name == "auth_error":
            log(f"{name}: {data['message']} (a key of the other type of client is no key for type={CLIENT_TYPE})")
        elif name == "auth_success":
            self.enter(data)

    def enter(self, data):
        log(f"ready, resumed: {str(data['resumed']).lower()}")
        self.ready_at = time.monotonic()
        self.interval = data["heartbeat"]["intervalMs"] / 1000
        self.next_beat = self.ready_at + self.interval * random.uniform(0.9, 1.1)
        if self.held is not None and self.held["view"]["own"]["id"] != data.get("agentId", data.get("gatewayId")):
            # A view belongs to one client: with the key of another one it is of no use.
            self.held = self.in_force = None
        if not data["resumed"]:
            self.held = None
        elif self.held is None:
            self.resync("resumed with the view of another client")
        else:
            self.ws.say("ack", {"revision": self.held["revision"]})

    def step(self, message, table, kind):
        held, data = self.held, message["data"]
        if held is None or message["previous"] > held["revision"]:
            return self.resync("a step is missing")
        if message["revision"] <= held["revision"]:
            return None
        rows = dict(held["view"].get(table, {}))
        rows.pop(key_of(data), None)
        if kind != "delete":
            rows[key_of(data)] = data
        view = {**held["view"], table: rows}
        return self.take({**held, "revision": message["revision"], "view": view})

    def take(self, state):
        """A view is in force, or the one before stays so and Control is told why."""
        self.held = state
        try:
            apply(state)
        except Exception as error:
            nack = {"code": type(error).__name__[:64], "message": str(error)[:500]}
            return self.ws.say("nack", {"revision": state["revision"], **nack})
        self.in_force = state
        self.ws.say("ack", {"revision": state["revision"]})
        return save(state)

    def resync(self, reason):
        """Once in five seconds is allowed."""
        if time.monotonic() - self.asked_at >= 5.5:
            self.asked_at = time.monotonic()
            self.ws.say("resync", {"reason": reason})


def key_of(row):
    return row["id"] if "id" in row else row["domain"]


def view_of(data):
    """Every list by id (certificates by domain)."""
    lists = {name: {key_of(row): row for row in rows} for name, rows in data.items() if isinstance(rows, list)}
    return {"tunnels": {}, **lists, "own": data.get("agent") or data["gateway"]}


def load():
    """A damaged file is as none."""
    try:
        with open(STATE_FILE, encoding="utf-8") as file:
            state = json.load(file)
        state["view"]["own"]["id"], state["view"]["tunnels"], state["timeline"], state["revision"] + 0
        return state
    except (OSError, ValueError, LookupError, TypeError):
        return None


def save(state):
    try:
        with open(os.open(STATE_FILE + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(state, file)
        os.replace(STATE_FILE + ".new", STATE_FILE)
    except OSError as error:
        log(f"the view could not be stored: {error}")


if __name__ == "__main__":
    if not os.environ.get("CONTROL_API_KEY"):
        sys.exit("CONTROL_API_KEY is not set")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    sys.exit(Client().run())
