/** The tunnels of an agent: each one passes TCP connections from the gateways to its target, byte by byte. */
import { once } from "node:events"
import { connect, createServer } from "node:net"

const tunnels = new Map() // by id: { row, status, detail, server }
let gatewayAddresses = new Set()

/** States for `status`. */
export const states = () => [...tunnels].map(([id, { detail, status }]) => ({ id, status, detail }))

/** Opens and closes tunnels as the rows say. Open connections of a closed tunnel end by themselves. */
export async function openTunnels({ addresses, changed, rows, virtualIp }) {
  gatewayAddresses = new Set(addresses)
  const isSame = (old, row) => old.virtualIp === virtualIp && old.row.port === row?.port && old.row.target === row?.target
  const rowsById = new Map(rows.map((row) => [row.id, row]))
  for (const [id, tunnel] of tunnels) {
    if (isSame(tunnel, rowsById.get(id))) continue
    tunnel.server.close()
    tunnels.delete(id)
  }
  const missing = rows.filter(({ id }) => !tunnels.has(id))
  const opened = await Promise.allSettled(missing.map((row) => openTunnel(row, virtualIp, changed)))
  changed()
  for (const { reason, status } of opened) if (status === "rejected") throw reason
}

/** Tries all targets. */
export const probeTargets = () => tunnels.forEach(({ probe }) => probe())

async function openTunnel(row, virtualIp, changed) {
  if (row.protocol === "udp") throw new Error("this agent carries no udp")
  const [, host, port] = /^(?:https?:\/\/)?\[?(.+?)\]?:(\d+)$/u.exec(row.target)
  const record = (status, detail) => {
    const isNews = tunnel.status !== status
    Object.assign(tunnel, { status, detail })
    if (isNews) changed()
  }
  const dial = (connected, failed) => {
    const target = connect({ host, port: Number(port), allowHalfOpen: true })
    let isConnected = false
    target.setTimeout(10_000, () => target.destroy(new Error("no answer after 10 s")))
    target.once("connect", () => {
      isConnected = true
      target.setTimeout(0)
      record("active")
      connected(target)
    })
    target.on("error", (error) => {
      if (!isConnected) record("target-unreachable", error.message)
      failed()
    })
    return target
  }
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (visitor) => {
    visitor.on("error", () => {})
    if (!gatewayAddresses.has(visitor.remoteAddress)) return visitor.resetAndDestroy()
    // `pipe` passes the end of one direction on, and reads no faster than the other side takes.
    const target = dial(() => visitor.pipe(target).pipe(visitor), () => visitor.resetAndDestroy())
    visitor.on("error", () => target.resetAndDestroy())
  })
  const probe = () => dial((target) => target.destroy(), () => {})
  const tunnel = { row, virtualIp, server, probe, status: "starting" }
  await once(server.listen(row.port, virtualIp), "listening")
  tunnels.set(row.id, tunnel)
  probe()
}
