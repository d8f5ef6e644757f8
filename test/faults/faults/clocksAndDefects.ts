/** F16 and F40: jumps of the wall clock, and exceptions in every function, injected from outside the code. */
import { sleep } from "#bench/support/timing.ts"
import { withWriters } from "#faults/checkGuarantees.ts"
import { RawWebSocket } from "#faults/RawWebSocket.ts"
import { TestCluster } from "#faults/TestCluster.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import { requireWithin, waitUntil } from "#faults/waitUntil.ts"
import { issueCertificate } from "#support/certificates.ts"
import { join } from "node:path"

const preload = (name: string): ReadonlyArray<string> => [
  "--import",
  join(import.meta.dirname, "..", "preload", `${name}.ts`)
]

const smallCrowd = 40

/** Maximum interval of a node's periodic work. */
const periodMillis = 6_000

const hour = 3_600_000

const clockJump: Fault = {
  id: "F16",
  name: "Jump of the wall clock",
  injected: "the node's `Date` jumps by 1 h and by 1 year, forward and back, 3 s each",
  expected: "no client evicted; presence unchanged",
  nodes: 0,
  execute: async (run) => {
    const cluster = await TestCluster.open({
      clients: smallCrowd,
      nodes: 1,
      seed: run.seed,
      execArgv: preload("clock")
    })
    try {
      await withWriters(run, cluster, async () => {
        for (const shiftMillis of [hour, -hour, 365 * 24 * hour, -365 * 24 * hour]) {
          cluster.node.child?.send({ shiftMillis })
          await sleep(3_000)
          run.check(await cluster.node.isReady(), `the node is not ready at ${shiftMillis / hour} h`)
        }
        cluster.node.child?.send({ shiftMillis: 0 })
      })
      run.observe(`closes: ${cluster.fleet.closesByCode()}`)
      run.check(cluster.fleet.closes.length === 0, `connections were closed: ${cluster.fleet.closesByCode()}`)
      run.notTested(
        "the clock of the machine, because every other process uses it too"
      )
    } finally {
      await cluster.close()
    }
  }
}

const ask = <A>(cluster: TestCluster, message: object, key: string): Promise<A | undefined> =>
  new Promise((resolve) => {
    const { child } = cluster.node
    const timer = setTimeout(() => resolve(undefined), 2_000)
    const listen = (answer: Record<string, A>) => {
      if (!(key in answer)) return
      clearTimeout(timer)
      child?.off("message", listen)
      resolve(answer[key])
    }
    child?.on("message", listen)
    child?.send(message)
  })

/** Number of `performEverything`, because names are unique. */
let round = 0

/** Performs every operation of clients and operators once, with clients outside the fleet. Ignores the results. */
const performEverything = async (
  cluster: TestCluster,
  keys: { agent: string; agentId: string; gateway: string },
  hasFired: () => boolean
): Promise<void> => {
  const { node } = cluster
  const { operator } = node
  const agent = new RawWebSocket(node.wsPort)
  const gateway = new RawWebSocket(node.wsPort)
  await waitUntil(2_000, () => agent.isOpen && gateway.isOpen)
  agent.send({ type: "auth", data: { apiKey: keys.agent } })
  gateway.send({ type: "auth", data: { apiKey: keys.gateway, publicIp: "203.0.113.250" } })
  agent.send({ type: "heartbeat", data: { timestamp: 1 } })
  const isIn = (socket: RawWebSocket) => socket.texts.some((text) => text.startsWith("{\"type\":\"config\""))
  await waitUntil(1_000, () => hasFired() || isIn(agent) && isIn(gateway))
  if (hasFired()) return cutAll(agent, gateway)
  const domain = "failpoint.example.com"
  const made = await operator.post("/api/tunnels", { agentId: keys.agentId, domain, target: "localhost:1" })
    .catch(() => undefined)
  agent.send({ type: "status", data: { tunnels: [{ domain, status: "active" }] } })
  gateway.send({ type: "certificate_obtained", data: { domain, ...issueCertificate({ names: [domain] }) } })
  const id = String(made?.body?.id ?? "none")
  for (
    const [method, path, body] of [
      ["get", `/api/tunnels/${id}`],
      ["patch", `/api/tunnels/${id}`, { target: "localhost:2" }],
      ["get", "/api/agents"],
      ["get", "/api/gateways/none"],
      ["post", `/api/agents/${keys.agentId}/keys`, {}],
      ["post", "/api/agents", { name: `made ${round += 1}` }],
      ["post", "/api/gateways", { name: `made ${round}` }],
      ["delete", `/api/agents/none`],
      ["delete", `/api/gateways/none`],
      ["delete", `/api/agents/${keys.agentId}/keys/none`],
      ["patch", "/api/gateways/none", { name: "none" }],
      ["get", `/api/agents/${keys.agentId}`],
      ["patch", `/api/agents/${keys.agentId}`, { name: "failing" }],
      ["get", "/api/gateways"],
      ["get", "/api/certificates"],
      ["get", `/api/agents/${keys.agentId}/keys`],
      ["get", "/api/audit"],
      ["get", "/api/clients"],
      ["get", "/metrics"],
      ["delete", `/api/certificates/${domain}`],
      ["delete", `/api/tunnels/${id}`]
    ] as const
  ) {
    await operator[method](path, body as never).catch(() => undefined)
    if (hasFired()) break
  }
  await waitUntil(300, hasFired)
  cutAll(agent, gateway)
  await waitUntil(200, hasFired)
}

const cutAll = (...sockets: ReadonlyArray<RawWebSocket>): void => {
  for (const socket of sockets) socket.cut()
}

const defects: Fault = {
  id: "F40",
  name: "Exception in any function",
  injected: "every Effect function of src throws once, one after another, while clients and operators use it",
  expected: "the caller fails (1011, 500); process alive; no other client closed; every view correct afterwards",
  nodes: 0,
  execute: async (run) => {
    const cluster = await TestCluster.open({
      clients: smallCrowd,
      nodes: 1,
      seed: run.seed,
      execArgv: preload("failpoints")
    })
    try {
      const agent = await cluster.create("/api/agents", { name: "failing" })
      const gateway = await cluster.create("/api/gateways", { name: "failing gateway" })
      const keys = {
        agent: String(agent["apiKey"]),
        agentId: String(agent["id"]),
        gateway: String(gateway["apiKey"])
      }
      const fired: Array<string> = []
      cluster.node.child?.on("message", (message: { readonly fired?: string }) => {
        if (message.fired !== undefined) fired.push(message.fired)
      })
      await cluster.waitUntilCalm()
      // Functions called only during a start are excluded, because a failed start affects no session.
      await ask(cluster, { list: true }, "points")
      await performEverything(cluster, keys, () => false)
      await sleep(periodMillis)
      const points = await ask<ReadonlyArray<string>>(cluster, { list: true }, "points") ?? []
      run.check(points.length > 30, `only ${points.length} points were found`)
      for (const point of points) await testFailpoint(run, cluster, point, keys, fired)
      const missed = points.filter((point) => !fired.includes(point))
      run.observe(
        `${points.length - missed.length} of ${points.length} points threw; closes: ${cluster.fleet.closesByCode()}`
      )
      run.check(missed.length <= points.length / 10, `never thrown: ${missed.join(", ")}`)
      await requireWithin("the node is ready", 15_000, () => cluster.node.isReady())
      await cluster.postgres.query("delete from tunnels where domain = 'failpoint.example.com'")
      await cluster.postgres.query("delete from agents where name = 'made'")
      await cluster.postgres.query("delete from gateways where name = 'made'")
      await cluster.postgres.query("delete from certificates where domain = 'failpoint.example.com'")
      await withWriters(run, cluster, () => sleep(500))
    } finally {
      await cluster.close()
    }
  }
}

const testFailpoint = async (
  run: FaultRun,
  cluster: TestCluster,
  point: string,
  keys: { agent: string; agentId: string; gateway: string },
  fired: ReadonlyArray<string>
): Promise<void> => {
  const closes = cluster.fleet.closes.length
  cluster.node.child?.send({ arm: point })
  await performEverything(cluster, keys, () => fired.includes(point))
  // Presence is written every few seconds.
  if (/presence|Heartbeat/iu.test(point)) await waitUntil(periodMillis, () => fired.includes(point))
  if (!cluster.node.isAlive) throw new Error(`a defect in ${point} ended the process`)
  const others = cluster.fleet.closes.slice(closes)
  // A client of the fleet may have called the function first. Then exactly one session ends.
  const isOne = others.length === 0 || others.length === 1 && others[0]?.code === 1011
  run.check(isOne, `a defect in ${point} closed others: ${cluster.fleet.closesByCode(others)}`)
}

export const inside: ReadonlyArray<Fault> = [clockJump, defects]
