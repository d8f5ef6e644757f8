/**
 * A complete client of Control in one file, based on protocol.md only. Needs no package and Node 22 or newer.
 *
 *   CONTROL_URL=ws://127.0.0.1:3001 CONTROL_API_KEY=ctl_agt_… node examples/node/agent.mjs
 *
 * CONTROL_CLIENT_TYPE is `agent` (default) or `gateway`. CONTROL_STATE_FILE (default `control-state.json`) stores the last view
 * with mode 0600, because the view contains private keys. Replace the body of `apply` by your own code. The program exits with
 * code 1 after a close code that forbids a reconnect.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs"
import { get as getPlaintext } from "node:http"
import { get as getOverTls } from "node:https"

const env = process.env
const type = env.CONTROL_CLIENT_TYPE ?? "agent"
const stateFile = env.CONTROL_STATE_FILE ?? "control-state.json"
const url = new URL(env.CONTROL_URL ?? "ws://127.0.0.1:3001")
url.searchParams.set("type", type)

if (typeof WebSocket === "undefined") {
  console.error(`this client needs Node 22 or newer; this is ${process.version}`)
  process.exit(1)
}
if (!env.CONTROL_API_KEY) {
  console.error("set CONTROL_API_KEY to the API key of an agent or a gateway")
  process.exit(1)
}

const log = (text) => console.log(`${new Date().toISOString()} ${text}`)

/** The applied snapshot `{ timeline, revision, view }`; null before the first config. */
let applied = readState()
let attempts = 0

/** Applies a view, for example to WireGuard. Throws if the view cannot be applied. */
function apply({ revision, view }) {
  log(`revision ${revision}: ${Object.keys(view.tunnels).length} tunnels`)
}

function connect() {
  const socket = new WebSocket(url, "control.v1")
  let current = applied // the newest snapshot received, applied or not
  let heartbeatMillis = 8_000 // replaced by `auth_success`, which must arrive within 2.5 intervals (20 s)
  let readyAt, drainMillis, heartbeatTimer, silenceTimer
  let resyncSentAt = -Infinity
  let isClosed = false
  let isOpen = false

  const send = (type, data) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ type, data }))
  const scheduleHeartbeat = () => {
    heartbeatTimer = setTimeout(() => {
      send("heartbeat", { timestamp: Date.now() })
      scheduleHeartbeat()
    }, heartbeatMillis * (0.9 + 0.2 * Math.random()))
  }
  const restartSilenceTimer = () => {
    clearTimeout(silenceTimer)
    silenceTimer = setTimeout(() => closed(1006, "no frame for 2.5 heartbeat intervals"), 2.5 * heartbeatMillis)
  }
  /** Requests a `config`. Control answers one `resync` in 5 s. */
  const resync = (reason) => {
    if (performance.now() - resyncSentAt < 5_500) return
    resyncSentAt = performance.now()
    send("resync", { reason })
  }
  /** Applies a snapshot and sends `ack`, or `nack` with the reason if `apply` throws. */
  const applyAndReport = (next) => {
    current = next
    try {
      apply(next)
    } catch (error) {
      return send("nack", { revision: next.revision, code: error.code ?? error.name, message: String(error.message).slice(0, 500) })
    }
    applied = next
    send("ack", { revision: next.revision })
    writeState(next)
  }
  const applyDelta = ({ data, previous, revision }, table, kind) => {
    if (current === null || previous > current.revision) return resync("a delta is missing")
    if (revision <= current.revision) return
    const rows = { ...current.view[table] }
    if (kind === "delete") delete rows[keyOf(data)]
    else rows[keyOf(data)] = data
    applyAndReport({ ...current, revision, view: { ...current.view, [table]: rows } })
  }
  const receive = (message) => {
    const { data, type: name } = message
    const [, row, kind] = /^(agent|gateway|tunnel|certificate)_(create|update|delete)$/.exec(name) ?? []
    if (row !== undefined) return applyDelta(message, `${row}s`, kind)
    if (name === "config") {
      resyncSentAt = -Infinity
      return applyAndReport({ timeline: message.timeline, revision: message.revision, view: viewOf(data) })
    }
    if (name === "heartbeat_ack" && (current === null || current.revision < data.revision)) return resync("behind the heartbeat_ack")
    if (name === "drain") drainMillis = data.reconnectAfterMs
    if (name === "error") log(`${name}: ${data.message}`)
    if (name === "auth_error") log(`${name}: ${data.message} (check that the key belongs to a client of type ${type})`)
    if (name !== "auth_success") return
    log(`ready, resumed: ${data.resumed}`)
    readyAt = performance.now()
    heartbeatMillis = data.heartbeat.intervalMs
    scheduleHeartbeat()
    // The API key may belong to another client than the stored view. Then the view is useless.
    if (current !== null && current.view.own.id !== (data.agentId ?? data.gatewayId)) current = applied = null
    if (!data.resumed) return (current = null)
    if (current === null) return resync("resumed with the view of another client")
    send("ack", { revision: current.revision })
  }
  const closed = (code, reason) => {
    if (isClosed) return
    isClosed = true
    clearTimeout(heartbeatTimer)
    clearTimeout(silenceTimer)
    socket.close()
    if ([4400, 4401, 4403, 4409, 4410].includes(code)) {
      log(`closed with ${code} ${reason}: not reconnecting`)
      process.exitCode = 1
      return
    }
    if (readyAt !== undefined && performance.now() - readyAt >= 60_000) attempts = 0
    const millis = reconnectDelay(code, drainMillis)
    // A drain is not a failed attempt, so it resets the delay.
    attempts = drainMillis === undefined ? attempts + 1 : 0
    log(`closed with ${code} ${reason}: reconnecting in ${Math.round(millis)} ms`)
    setTimeout(connect, millis)
  }

  restartSilenceTimer()
  socket.addEventListener("open", () => {
    isOpen = true
    const resume = current === null ? {} : { resume: { timeline: current.timeline, revision: current.revision } }
    send("auth", { apiKey: env.CONTROL_API_KEY, clientVersion: "example-node/1", ...resume })
  })
  socket.addEventListener("message", ({ data }) => {
    restartSilenceTimer()
    if (!isClosed) receive(JSON.parse(data))
    restartSilenceTimer()
  })
  socket.addEventListener("error", () => {}) // A close event follows.
  socket.addEventListener("close", async ({ code, reason }) => closed(code, reason || (isOpen ? "" : await connectFailure())))
}

/** Node's WebSocket hides why it could not connect, so this asks for the same upgrade once more. Returns a sentence. */
function connectFailure() {
  const { promise, resolve } = Promise.withResolvers()
  const upgrade = {
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": Buffer.alloc(16, 1).toString("base64"),
    "sec-websocket-protocol": "control.v1"
  }
  const get = url.protocol === "wss:" ? getOverTls : getPlaintext
  get(url.href.replace("ws", "http"), { headers: upgrade, timeout: 10_000 })
    .on("upgrade", (_, socket) => resolve("the connection was lost") ?? socket.destroy())
    .on("response", (response) => resolve(`the upgrade was rejected with HTTP ${response.statusCode}`) ?? response.destroy())
    .on("timeout", function() { this.destroy(new Error(`${url.host} does not answer`)) })
    .on("error", ({ code, errors, message }) => resolve(message || `${code}: ${errors?.[0]?.message}`))
  return promise
}

/** The delay before the next connection in milliseconds, by the table of close codes in protocol.md, with full jitter. */
function reconnectDelay(code, drainMillis) {
  if (code === 4429) return 60_000 + Math.random() * 10_000
  return drainMillis ?? Math.random() * Math.min(60_000, 1_000 * 2 ** attempts)
}

function keyOf(row) {
  return row.id ?? row.domain
}

/** Converts each list of a config to an object by id; certificates by domain. Other fields stay, for example `mtu`. */
function viewOf({ agent, gateway, ...fields }) {
  const byKey = ([name, rows]) => [
    name,
    Array.isArray(rows) ? Object.fromEntries(rows.map((row) => [keyOf(row), row])) : rows
  ]
  return { own: agent ?? gateway, tunnels: {}, ...Object.fromEntries(Object.entries(fields).map(byKey)) }
}

/** Reads the state file. Returns null if the file is missing or damaged. */
function readState() {
  try {
    const { revision, timeline, view } = JSON.parse(readFileSync(stateFile, "utf8"))
    return typeof view.own.id === "string" ? { timeline, revision, view } : null
  } catch {
    return null
  }
}

function writeState(state) {
  try {
    writeFileSync(`${stateFile}.new`, JSON.stringify(state), { mode: 0o600 })
    renameSync(`${stateFile}.new`, stateFile)
  } catch (error) {
    log(`cannot write ${stateFile}: ${error.message}`)
  }
}

process.once("SIGINT", () => process.exit()).once("SIGTERM", () => process.exit())
try {
  // The stored view is applied before the first connection.
  if (applied !== null) apply(applied)
} catch (error) {
  log(`cannot apply the stored view: ${error.message}`)
  applied = null
}
connect()
