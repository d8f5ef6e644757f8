/**
 * An agent that carries http, tls and tcp tunnels with `ip`, `wg` and `nft`, without Control's own code.
 *
 *   CONTROL_URL=ws://127.0.0.1:3001 CONTROL_API_KEY=ctl_agt_… node examples/agent-with-wg/agent.mjs
 *
 * Needs Linux, root and Node 22. WG_INTERFACE names the interface (default `control0`), which the program creates and deletes.
 * The program keeps no view on disk and does not resume: examples/node/agent.mjs shows both.
 */
import { configureInterface, createInterface, deleteInterface } from "./interface.mjs"
import { openTunnels, probeTargets, states } from "./tunnels.mjs"

const { CONTROL_API_KEY: apiKey, CONTROL_URL = "ws://127.0.0.1:3001", WG_INTERFACE: name = "control0" } = process.env
let view // the newest view: { revision, agent, mtu, gateways, tunnels }
let socket, reportTimer
let applying = Promise.resolve()
let attempts = 0

const log = (text) => console.log(`${new Date().toISOString()} ${text}`)
const send = (type, data) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ type, data }))

/** Reports the tunnels after 100 ms, so that many changes are few messages. */
function report() {
  reportTimer ??= setTimeout(() => {
    reportTimer = undefined
    const tunnels = states()
    for (let sent = 0; sent < tunnels.length; sent += 1000) send("status", { tunnels: tunnels.slice(sent, sent + 1000) })
  }, 100)
}

/** Applies a view after the one before, unless a newer one has arrived. */
function applySoon(next) {
  view = next
  const before = applying
  applying = (async () => {
    await before
    if (next === view) await applyNow(next)
  })()
}

async function applyNow({ revision, ...next }) {
  const peers = [...next.gateways.values()].filter(({ endpoint, virtualIps }) => endpoint !== null && virtualIps.length > 0)
  const rows = [...next.tunnels.values()].filter(({ enabled, port }) => enabled && port > 0)
  const addresses = peers.map(({ virtualIps }) => virtualIps[0])
  try {
    configureInterface(name, { ...next, peers, ports: rows.map(({ port }) => port) })
    await openTunnels({ rows, addresses, virtualIp: next.agent.virtualIp, changed: report })
    send("ack", { revision })
    log(`revision ${revision}: ${rows.length} tunnels`)
  } catch ({ message }) {
    log(`revision ${revision} is not applied: ${message}`)
    send("nack", { revision, code: "not_applied", message: message.slice(0, 500) })
  }
}

function receive({ data, previous, revision, type }) {
  const [, kind, change] = /^(gateway|tunnel)_(create|update|delete)$/u.exec(type) ?? []
  if (type === "config") {
    const byId = (rows) => new Map(rows.map((row) => [row.id, row]))
    applySoon({ ...data, revision, gateways: byId(data.gateways), tunnels: byId(data.tunnels) })
  } else if (previous > view?.revision || (type === "heartbeat_ack" && data.revision > view?.revision)) {
    send("resync", { reason: "a message is missing" })
  } else if (kind !== undefined && revision > view.revision) {
    const rows = new Map(view[`${kind}s`])
    if (change === "delete") rows.delete(data.id)
    else rows.set(data.id, data)
    applySoon({ ...view, revision, [`${kind}s`]: rows })
  } else if (type === "error" || type === "auth_error") log(`${type}: ${data.message}`)
}

function connect() {
  let heartbeat, silence, readyAt, drainMillis, isClosed
  let silenceMillis = 20_000 // until `auth_success` names the interval of heartbeats
  const own = socket = new WebSocket(`${CONTROL_URL}/?type=agent`, "control.v1")
  const restartSilence = () => {
    clearTimeout(silence)
    silence = setTimeout(() => closed({ code: 1006, reason: "no frame arrives" }), silenceMillis)
  }
  /** Connects again after the delay of protocol.md. The tunnels work while Control is away. */
  const closed = ({ code, reason }) => {
    if (isClosed) return
    isClosed = true
    clearInterval(heartbeat)
    clearTimeout(silence)
    own.close()
    log(`closed with ${code} ${reason}`)
    if ([4400, 4401, 4403, 4409, 4410].includes(code)) return stop(1)
    if (performance.now() - readyAt >= 60_000) attempts = 0
    const backoff = Math.random() * Math.min(60_000, 1000 * 2 ** attempts)
    attempts = drainMillis === undefined ? attempts + 1 : 0
    setTimeout(connect, code === 4429 ? 60_000 : drainMillis ?? backoff)
  }
  restartSilence()
  own.addEventListener("open", () => send("auth", { apiKey, clientVersion: "agent-with-wg/1" }))
  own.addEventListener("message", (event) => {
    const { data, type, ...position } = JSON.parse(event.data)
    if (type === "auth_success") {
      readyAt = performance.now()
      silenceMillis = 2.5 * data.heartbeat.intervalMs
      heartbeat = setInterval(() => send("heartbeat", { timestamp: Date.now() }), data.heartbeat.intervalMs)
    } else if (type === "drain") drainMillis = data.reconnectAfterMs
    else receive({ data, type, ...position })
    restartSilence()
  })
  own.addEventListener("error", () => {}) // `close` follows.
  own.addEventListener("close", closed)
}

function stop(code) {
  deleteInterface(name)
  process.exit(code)
}

process.once("SIGINT", () => stop(0)).once("SIGTERM", () => stop(0))
createInterface(name)
setInterval(probeTargets, 10_000)
connect()
