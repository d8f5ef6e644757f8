/**
 * A whole client of Control in one file, written from protocol.md alone: no package, no code of ours. Needs Node 22 or newer.
 *
 *   CONTROL_URL=ws://127.0.0.1:3001 CONTROL_API_KEY=ctl_agt_… node examples/node/agent.mjs
 *
 * CONTROL_CLIENT_TYPE is `agent` (the default) or `gateway`. CONTROL_STATE_FILE (`control-state.json`) keeps the last view, which
 * has private keys in it: mode 0600. To make it do something, fill in `apply`. It ends with exit code 1 when it must not come back.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs"

const env = process.env
const type = env.CONTROL_CLIENT_TYPE ?? "agent"
const stateFile = env.CONTROL_STATE_FILE ?? "control-state.json"
const url = new URL(env.CONTROL_URL ?? "ws://127.0.0.1:3001")
url.searchParams.set("type", type)

if (typeof WebSocket === "undefined") {
  console.error(`this client needs Node 22 or newer, and this is ${process.version}`)
  process.exit(1)
}
if (!env.CONTROL_API_KEY) {
  console.error("CONTROL_API_KEY is not set")
  process.exit(1)
}

const log = (text) => console.log(`${new Date().toISOString()} ${text}`)

/** `{ timeline, revision, view }`: what is in force and up to where; null before the first config. */
let inForce = load()
let attempts = 0

/** Puts a view into force; throws if that cannot be done. Here WireGuard would be configured, and traffic forwarded. */
function apply({ revision, view }) {
  log(`revision ${revision}: ${Object.keys(view.tunnels).length} tunnels`)
}

function connect() {
  const socket = new WebSocket(url, "control.v1")
  let held = inForce // the newest view that was received here
  let interval = 8_000 // until the server names one: 20 seconds of patience for `auth_success`
  let readyAt, drain, heart, watchdog
  let askedAt = -Infinity
  let isLost = false

  const say = (type, data) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ type, data }))
  const beat = () => {
    heart = setTimeout(() => {
      say("heartbeat", { timestamp: Date.now() })
      beat()
    }, interval * (0.9 + 0.2 * Math.random()))
  }
  const watch = () => {
    clearTimeout(watchdog)
    watchdog = setTimeout(() => lost(1006, "no frame for 2.5 intervals"), 2.5 * interval)
  }
  /** Once in five seconds is allowed. */
  const resync = (reason) => {
    if (performance.now() - askedAt < 5_500) return
    askedAt = performance.now()
    say("resync", { reason })
  }
  /** A view is in force, or the one before stays so and Control is told why. */
  const take = (next) => {
    held = next
    try {
      apply(next)
    } catch (error) {
      return say("nack", { revision: next.revision, code: error.code ?? error.name, message: String(error.message).slice(0, 500) })
    }
    inForce = next
    say("ack", { revision: next.revision })
    save(next)
  }
  const step = ({ data, previous, revision }, table, kind) => {
    if (held === null || previous > held.revision) return resync("a step is missing")
    if (revision <= held.revision) return
    const rows = { ...held.view[table] }
    if (kind === "delete") delete rows[keyOf(data)]
    else rows[keyOf(data)] = data
    take({ ...held, revision, view: { ...held.view, [table]: rows } })
  }
  const hear = (message) => {
    const { data, type: name } = message
    const [, row, kind] = /^(agent|gateway|tunnel|certificate)_(create|update|delete)$/.exec(name) ?? []
    if (row !== undefined) return step(message, `${row}s`, kind)
    if (name === "config") {
      askedAt = -Infinity
      return take({ timeline: message.timeline, revision: message.revision, view: viewOf(data) })
    }
    if (name === "heartbeat_ack" && (held === null || held.revision < data.revision)) return resync("behind the heartbeat_ack")
    if (name === "drain") drain = data.reconnectAfterMs
    if (name === "error") log(`${name}: ${data.message}`)
    if (name === "auth_error") log(`${name}: ${data.message} (a key of the other type of client is no key for type=${type})`)
    if (name !== "auth_success") return
    log(`ready, resumed: ${data.resumed}`)
    readyAt = performance.now()
    interval = data.heartbeat.intervalMs
    beat()
    // A view belongs to one client: with the key of another one it is of no use.
    if (held !== null && held.view.own.id !== (data.agentId ?? data.gatewayId)) held = inForce = null
    if (!data.resumed) return (held = null)
    if (held === null) return resync("resumed with the view of another client")
    say("ack", { revision: held.revision })
  }
  const lost = (code, reason) => {
    if (isLost) return
    isLost = true
    clearTimeout(heart)
    clearTimeout(watchdog)
    socket.close()
    if ([4400, 4403, 4409, 4410].includes(code)) {
      log(`closed with ${code} ${reason}: not coming back`)
      process.exitCode = 1
      return
    }
    if (readyAt !== undefined && performance.now() - readyAt >= 60_000) attempts = 0
    const millis = waitFor(code, drain)
    // A drain is no failure: if the attempt after it is one, it is the first.
    attempts = drain === undefined ? attempts + 1 : 0
    log(`closed with ${code} ${reason}: back in ${Math.round(millis)} milliseconds`)
    setTimeout(connect, millis)
  }

  watch()
  socket.addEventListener("open", () => {
    const resume = held === null ? {} : { resume: { timeline: held.timeline, revision: held.revision } }
    say("auth", { apiKey: env.CONTROL_API_KEY, clientVersion: "example-node/1", ...resume })
  })
  socket.addEventListener("message", ({ data }) => {
    watch()
    if (!isLost) hear(JSON.parse(data))
    watch()
  })
  socket.addEventListener("error", () => {}) // A close follows.
  socket.addEventListener("close", ({ code, reason }) => lost(code, reason))
}

/** The table of close codes in protocol.md; full jitter. */
function waitFor(code, drain) {
  if (code === 4401) return 60_000 + Math.random() * 240_000
  if (code === 4429) return 60_000 + Math.random() * 10_000
  return drain ?? Math.random() * Math.min(60_000, 1_000 * 2 ** attempts)
}

function keyOf(row) {
  return row.id ?? row.domain
}

/** Every list by id (certificates by domain). */
function viewOf({ agent, gateway, ...lists }) {
  const byKey = ([name, rows]) => [name, Object.fromEntries(rows.map((row) => [keyOf(row), row]))]
  return { own: agent ?? gateway, tunnels: {}, ...Object.fromEntries(Object.entries(lists).map(byKey)) }
}

/** A damaged file is as none. */
function load() {
  try {
    const { revision, timeline, view } = JSON.parse(readFileSync(stateFile, "utf8"))
    return typeof view.own.id === "string" ? { timeline, revision, view } : null
  } catch {
    return null
  }
}

function save(state) {
  try {
    writeFileSync(`${stateFile}.new`, JSON.stringify(state), { mode: 0o600 })
    renameSync(`${stateFile}.new`, stateFile)
  } catch (error) {
    log(`the view could not be stored: ${error.message}`)
  }
}

process.once("SIGINT", () => process.exit()).once("SIGTERM", () => process.exit())
try {
  // What is on disk is in force before the first connection.
  if (inForce !== null) apply(inForce)
} catch (error) {
  log(`the stored view cannot be applied: ${error.message}`)
  inForce = null
}
connect()
