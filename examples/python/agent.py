#!/usr/bin/env python3
"""A complete client of Control in one file, based on protocol.md only. Needs Python 3.9 or newer and no package.

    CONTROL_URL=ws://127.0.0.1:3001 CONTROL_API_KEY=ctl_agt_... python3 examples/python/agent.py

CONTROL_CLIENT_TYPE is `agent` (default) or `gateway`. CONTROL_STATE_FILE (default `control-state.json`) stores the last view,
mode 0600: it contains private keys. Replace the body of `apply`. Exits with code 1 if the close code forbids a reconnect.
"""
import base64, hashlib, json, os, random, re, signal, socket, ssl, struct, sys, time
from urllib.parse import urlsplit

CLIENT_TYPE = os.environ.get("CONTROL_CLIENT_TYPE", "agent")
STATE_FILE = os.environ.get("CONTROL_STATE_FILE", "control-state.json")
URL = os.environ.get("CONTROL_URL", "ws://127.0.0.1:3001")
PERMANENT_CLOSE_CODES = {4400, 4401, 4403, 4409, 4410}


def log(text):
    print(time.strftime("%Y-%m-%dT%H:%M:%S"), text, flush=True)


def apply(state):
    """Applies a view, for example to WireGuard. Raises an exception if the view cannot be applied."""
    log(f"revision {state['revision']}: {len(state['view']['tunnels'])} tunnels")


class Disconnected(Exception):
    """The connection has ended. `code` is the close code, or 1006 if there was none."""

    def __init__(self, code, reason=""):
        self.code, self.reason = code, reason


class WebSocket:
    """The part of RFC 6455 that a client needs: text messages in both directions, pong, close."""

    def __init__(self, url, subprotocol):
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        try:
            self.sock = socket.create_connection((parts.hostname, port), timeout=10)
            if parts.scheme == "wss":
                self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=parts.hostname)
            self.buffer, self.parts = bytearray(), []
            self.open_handshake(parts, port, subprotocol)
        except OSError as error:
            raise Disconnected(1006, str(error)) from error

    def open_handshake(self, parts, port, subprotocol):
        key = base64.b64encode(os.urandom(16)).decode()
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.sock.sendall((
            f"GET {parts.path or '/'}?type={CLIENT_TYPE} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        ).encode())
        while b"\r\n\r\n" not in self.buffer:
            self.read_bytes()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        if " 101 " not in status + " ":
            raise Disconnected(1006, f"the upgrade was rejected: {status} {rest.decode('utf-8', 'replace')}")
        if headers.get("sec-websocket-accept") != accept or headers.get("sec-websocket-protocol") != subprotocol:
            raise Disconnected(1006, f"the server does not support {subprotocol}")

    def read_bytes(self):
        data = self.sock.recv(65536)
        if not data:
            raise Disconnected(1006, "the connection was reset")
        self.buffer += data

    def take_frame(self):
        """Takes one frame (is final, opcode, payload) from the buffer. Returns None if the frame is incomplete."""
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
        first, payload = data[0], bytes(data[start:start + length])
        del data[:start + length]
        return bool(first & 0x80), first & 0x0F, payload

    def receive(self, deadline):
        """Returns the next text message, "" for a ping or pong, or None after the deadline (monotonic clock)."""
        while True:
            frame = self.take_frame()
            if frame is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.sock.settimeout(left)
                try:
                    self.read_bytes()
                except (TimeoutError, socket.timeout):
                    return None
                except OSError as error:
                    raise Disconnected(1006, str(error)) from error
                continue
            final, opcode, payload = frame
            if opcode == 8:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                self.send(8, payload[:2])
                raise Disconnected(code, payload[2:].decode("utf-8", "replace"))
            if opcode == 9:
                self.send(10, payload)
            if opcode > 8:
                return ""
            self.parts.append(payload)
            if final:
                text, self.parts = b"".join(self.parts).decode(), []
                return text

    def send(self, opcode, payload):
        """Sends one frame, masked as RFC 6455 requires of clients."""
        mask, length = os.urandom(4), len(payload)
        head = bytes([0x80 | opcode, 0x80 | length]) if length < 126 else (
            struct.pack("!BBH", 0x80 | opcode, 0xFE, length) if length < 65536
            else struct.pack("!BBQ", 0x80 | opcode, 0xFF, length))
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.sock.settimeout(10)
        try:
            self.sock.sendall(head + mask + masked)
        except OSError as error:
            if opcode != 8:  # The peer may already be gone when the close is answered.
                raise Disconnected(1006, str(error)) from error

    def send_message(self, type, data):
        self.send(1, json.dumps({"type": type, "data": data}).encode())


class Client:
    """Reconnects forever. `applied` is the snapshot {timeline, revision, view}, or None before the first config."""

    def __init__(self):
        self.applied, self.attempts = read_state(), 0
        if self.applied is not None:
            try:
                apply(self.applied)  # The stored view is applied before the first connection.
            except Exception as error:
                log(f"cannot apply the stored view: {error}")
                self.applied = None

    def run(self):
        while True:
            self.ready_at = self.drain_millis = None
            try:
                self.serve_connection(WebSocket(URL, "control.v1"))
            except Disconnected as disconnected:
                if disconnected.code in PERMANENT_CLOSE_CODES:
                    log(f"closed with {disconnected.code} {disconnected.reason}: not reconnecting")
                    return 1
                if self.ready_at is not None and time.monotonic() - self.ready_at >= 60:
                    self.attempts = 0
                seconds = self.reconnect_delay(disconnected.code)
                self.attempts = self.attempts + 1 if self.drain_millis is None else 0  # A drain is not a failed attempt.
                log(f"closed with {disconnected.code} {disconnected.reason}: reconnecting in {seconds:.3f} s")
                time.sleep(seconds)

    def reconnect_delay(self, code):
        """The delay in seconds by the table of close codes in protocol.md, with full jitter."""
        if code == 4429:
            return random.uniform(60, 70)
        return random.uniform(0, min(60, 2 ** min(self.attempts, 6))) if self.drain_millis is None else self.drain_millis / 1000

    def serve_connection(self, ws):
        """Authenticates and processes messages. Raises Disconnected when the connection ends."""
        self.ws, self.current, self.resync_sent_at = ws, self.applied, float("-inf")
        resume = {} if self.current is None else {"resume": {key: self.current[key] for key in ("timeline", "revision")}}
        ws.send_message("auth", {"apiKey": os.environ["CONTROL_API_KEY"], "clientVersion": "example-python/1", **resume})
        # auth_success must arrive within 2.5 intervals (20 s).
        self.interval, self.next_heartbeat_at, received_at = 8, float("inf"), time.monotonic()
        try:
            while True:
                timeout_at = received_at + 2.5 * self.interval
                text = ws.receive(min(timeout_at, self.next_heartbeat_at))
                now = time.monotonic()
                if text is not None:
                    received_at = now
                    if text:
                        self.receive_message(json.loads(text))
                elif now >= timeout_at:
                    raise Disconnected(1006, "no frame for 2.5 heartbeat intervals")
                if now >= self.next_heartbeat_at:
                    ws.send_message("heartbeat", {"timestamp": int(time.time() * 1000)})
                    self.next_heartbeat_at = now + self.interval * random.uniform(0.9, 1.1)
        finally:
            ws.sock.close()

    def receive_message(self, message):
        name, data = message["type"], message["data"]
        delta = re.fullmatch(r"(agent|gateway|tunnel|certificate)_(create|update|delete)", name)
        if delta:
            self.apply_delta(message, delta[1] + "s", delta[2])
        elif name == "config":
            self.resync_sent_at = float("-inf")
            self.apply_and_report({"timeline": message["timeline"], "revision": message["revision"], "view": view_of(data)})
        elif name == "heartbeat_ack":
            if self.current is None or self.current["revision"] < data["revision"]:
                self.resync("behind the heartbeat_ack")
        elif name == "drain":
            self.drain_millis = data["reconnectAfterMs"]
        elif name == "error":
            log(f"{name}: {data['message']}")
        elif name == "auth_error":
            log(f"{name}: {data['message']} (check that the key belongs to a client of type {CLIENT_TYPE})")
        elif name == "auth_success":
            self.authenticated(data)

    def authenticated(self, data):
        log(f"ready, resumed: {str(data['resumed']).lower()}")
        self.ready_at = time.monotonic()
        self.interval = data["heartbeat"]["intervalMs"] / 1000
        self.next_heartbeat_at = self.ready_at + self.interval * random.uniform(0.9, 1.1)
        if self.current is not None and self.current["view"]["own"]["id"] != data.get("agentId", data.get("gatewayId")):
            # The API key may belong to another client than the stored view. Then the view is useless.
            self.current = self.applied = None
        if not data["resumed"]:
            self.current = None
        elif self.current is None:
            self.resync("resumed with the view of another client")
        else:
            self.ws.send_message("ack", {"revision": self.current["revision"]})

    def apply_delta(self, message, table, kind):
        current, data = self.current, message["data"]
        if current is None or message["previous"] > current["revision"]:
            return self.resync("a delta is missing")
        if message["revision"] <= current["revision"]:
            return None
        rows = dict(current["view"].get(table, {}))
        rows.pop(key_of(data), None)
        if kind != "delete":
            rows[key_of(data)] = data
        return self.apply_and_report({**current, "revision": message["revision"], "view": {**current["view"], table: rows}})

    def apply_and_report(self, state):
        """Applies a snapshot and sends ack, or nack with the reason if `apply` raises an exception."""
        self.current = state
        try:
            apply(state)
        except Exception as error:
            reason = {"code": type(error).__name__[:64], "message": str(error)[:500]}
            return self.ws.send_message("nack", {"revision": state["revision"], **reason})
        self.applied = state
        self.ws.send_message("ack", {"revision": state["revision"]})
        return write_state(state)

    def resync(self, reason):
        """Requests a config. Control answers one resync in 5 s."""
        if time.monotonic() - self.resync_sent_at >= 5.5:
            self.resync_sent_at = time.monotonic()
            self.ws.send_message("resync", {"reason": reason})


def key_of(row):
    return row["id"] if "id" in row else row["domain"]


def view_of(data):
    """Converts each list of a config to a dict by id; certificates by domain."""
    lists = {name: {key_of(row): row for row in rows} for name, rows in data.items() if isinstance(rows, list)}
    return {"tunnels": {}, **lists, "own": data.get("agent") or data["gateway"]}


def read_state():
    """Reads the state file. Returns None if the file is missing or damaged."""
    try:
        with open(STATE_FILE, encoding="utf-8") as file:
            state = json.load(file)
        state["view"]["own"]["id"], state["view"]["tunnels"], state["timeline"], state["revision"] + 0
        return state
    except (OSError, ValueError, LookupError, TypeError):
        return None


def write_state(state):
    try:
        with open(os.open(STATE_FILE + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(state, file)
        os.replace(STATE_FILE + ".new", STATE_FILE)
    except OSError as error:
        log(f"cannot write {STATE_FILE}: {error}")


if __name__ == "__main__":
    if not os.environ.get("CONTROL_API_KEY"):
        sys.exit("set CONTROL_API_KEY to the API key of an agent or a gateway")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    sys.exit(Client().run())
