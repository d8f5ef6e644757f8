/** F19, F37 to F39: SIGTERM under load, replaced TLS files, little memory, few file descriptors. */
import { now, sleep } from "#bench/support/timing.ts"
import { ControlNode } from "#faults/ControlNode.ts"
import { makeTemporaryDirectory, operatorApi, removeDirectory } from "#faults/embeddedNodeHelpers.ts"
import type { Close } from "#faults/ClientFleet.ts"
import { withWriters } from "#faults/checkGuarantees.ts"
import { runManyClients } from "#faults/memoryPressure.ts"
import { formatMebibytes, readMetric } from "#faults/nodeMetrics.ts"
import { tryLogin } from "#faults/tryLogin.ts"
import { openAuthenticated, RawWebSocket } from "#faults/RawWebSocket.ts"
import { heartbeatTimeoutMillis, type TestCluster } from "#faults/TestCluster.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import { formatSeconds, requireWithin, waitUntil } from "#faults/waitUntil.ts"
import { issueCertificate } from "#support/certificates.ts"
import { renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { connect } from "node:tls"
import { WebSocket } from "ws"

const sigtermUnderLoad: Fault = {
  id: "F19",
  name: "SIGTERM under load",
  injected: "SIGTERM during 200 new connections per second, writers, and a gateway that sends certificates",
  expected: "exit code 0 within 15 s; 1012 for every connected client; a stored row for every accepted certificate",
  nodes: 1,
  execute: async (run, cluster) => {
    const rows = await cluster.postgres.query(
      "select domain from tunnels where domain like 'app-%' and domain not in (select domain from certificates) order by 1 limit 10"
    )
    const messages = rows.map(({ domain }) => ({
      type: "certificate_obtained",
      data: { domain: String(domain), ...issueCertificate({ names: [String(domain)] }) }
    }))
    for (const { data } of messages) cluster.certificateKeys.set(data.domain, data.privateKey)
    const accepted = new Set<string>()
    await withWriters(run, cluster, async (ledger) => {
      const raw = await openAuthenticated(cluster.node.wsPort, cluster.spareGatewayKey, true)
      const sockets: Array<RawWebSocket> = []
      const storm = setInterval(() => {
        for (let index = 0; index < 10; index += 1) sockets.push(new RawWebSocket(cluster.node.wsPort))
        for (const socket of sockets.slice(-30)) {
          if (socket.isOpen) socket.send({ type: "auth", data: { apiKey: "ctl_agt_nobody" } })
        }
      }, 50)
      try {
        await sleep(1_000)
        for (const message of messages.slice(0, 5)) raw.send(message)
        await waitUntil(2_000, () => raw.texts.some((text) => text.includes("certificate_accepted")))
        for (const message of messages.slice(5)) raw.send(message)
        const began = now()
        cluster.node.signal("SIGTERM")
        const took = await waitUntil(30_000, () => !cluster.node.isAlive)
        const code = took === undefined ? "nothing" : await cluster.node.exited
        run.observe(`exit ${code} after ${formatSeconds(now() - began)} with ${sockets.length} connections made`)
        run.check(
          took !== undefined && took < 15_000 && code === 0,
          `ended with ${code} after ${formatSeconds(took ?? Infinity)}`
        )
      } finally {
        clearInterval(storm)
        for (const socket of sockets) socket.cut()
      }
      for (const text of raw.texts) {
        const [, domain] = /^\{"type":"certificate_accepted","data":\{"domain":"([^"]+)"/u.exec(text) ?? []
        if (domain !== undefined) accepted.add(domain)
      }
      ledger.record("unknown", messages.length)
    }, { nodesMayRestart: true })
    const there = new Set(
      (await cluster.postgres.query("select domain from certificates")).map(({ domain }) => String(domain))
    )
    const missing = [...accepted].filter((domain) => !there.has(domain))
    const stored = messages.filter(({ data }) => there.has(data.domain)).length
    run.observe(
      `of ${messages.length} certificates ${accepted.size} accepted, ${stored} stored; closes: ${cluster.fleet.closesByCode()}`
    )
    run.check(missing.length === 0, `accepted, but not stored: ${missing.join(", ")}`)
    // Later closes belong to clients that reconnected before the node was back.
    const isFirst = (close: Close) => cluster.fleet.closes.find(({ client }) => client === close.client) === close
    const wrong = cluster.fleet.closes.filter((close) => isFirst(close) && close.code !== 1012)
    run.check(wrong.length === 0, `closed with ${cluster.fleet.closesByCode(wrong)}`)
    for (const { data } of messages) await cluster.node.operator.delete(`/api/certificates/${data.domain}`)
  }
}

/** The certificate that the server presents to a new connection. */
const presentedCertificate = (port: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", servername: "localhost", rejectUnauthorized: false })
    socket.once("error", reject).once("secureConnect", () => {
      resolve(String(socket.getPeerX509Certificate()?.toString()).replaceAll("\n", ""))
      socket.destroy()
    })
  })

/** Replaces both files by renaming, so that the node never reads a partial file. */
const replaceTlsFiles = (directory: string): string => {
  const { certificate, privateKey } = issueCertificate({ names: ["localhost"] })
  for (const [name, text] of [["key.pem", privateKey], ["certificate.pem", certificate]] as const) {
    writeFileSync(join(directory, `${name}.new`), text, { mode: 0o600 })
    renameSync(join(directory, `${name}.new`), join(directory, name))
  }
  return certificate.replaceAll("\n", "")
}

const tlsFiles: Fault = {
  id: "F37",
  name: "TLS files replaced; proxy with idle timeout",
  injected:
    "certificate files replaced three times, once by invalid data, with two connected clients; then a proxy resets connections that are idle for one heartbeat timeout, during three timeouts without changes",
  expected:
    "new connections get the new certificate; invalid data changes nothing; no client closed; heartbeats keep idle connections open",
  nodes: 1,
  execute: async (run, cluster) => {
    const directory = await makeTemporaryDirectory()
    let current = replaceTlsFiles(directory)
    const node = await ControlNode.make({
      name: "the TLS node",
      dataDir: join(directory, "data"),
      env: {
        ...cluster.node.options.env,
        CONTROL_TLS_CERTIFICATE: join(directory, "certificate.pem"),
        CONTROL_TLS_PRIVATE_KEY: join(directory, "key.pem")
      }
    })
    // `start` asks in plaintext, so the test waits for the TLS port instead.
    node.spawn()
    const clients: Array<WebSocket> = []
    let closes = 0
    try {
      await requireWithin(
        "the node accepts TLS",
        30_000,
        () => presentedCertificate(node.wsPort).then(() => true, () => false)
      )
      for (const apiKey of [cluster.spareAgentKey, cluster.spareGatewayKey]) {
        const ws = new WebSocket(`wss://127.0.0.1:${node.wsPort}/`, { rejectUnauthorized: false })
        ws.on("error", () => {}).on("close", () => closes += 1)
        ws.on("open", () => ws.send(JSON.stringify({ type: "auth", data: { apiKey } })))
        ws.once("message", () => clients.push(ws))
      }
      await requireWithin("both clients are authenticated", 10_000, () => clients.length === 2)
      const heartbeatTimer = setInterval(() => {
        for (const ws of clients) ws.send("{\"type\":\"heartbeat\",\"data\":{\"timestamp\":1}}")
      }, 1_000)
      const times: Array<number> = []
      try {
        for (let round = 0; round < 3; round += 1) {
          if (round === 1) {
            writeFileSync(join(directory, "certificate.pem"), "rubbish")
            await sleep(1_500)
            run.check(await presentedCertificate(node.wsPort) === current, "an invalid file changed the certificate")
          }
          current = replaceTlsFiles(directory)
          const took = await waitUntil(20_000, async () => await presentedCertificate(node.wsPort) === current)
          run.check(took !== undefined, "a replaced certificate is not shown to new connections")
          times.push(took ?? Number.NaN)
        }
      } finally {
        clearInterval(heartbeatTimer)
      }
      run.observe(`3 certificates shown after ${times.map((millis) => formatSeconds(millis)).join(", ")}`)
      run.check(closes === 0, "a client was closed by the replacement of files")
    } finally {
      for (const ws of clients) ws.terminate()
      await node.stop()
      removeDirectory(directory)
    }
    await checkIdleProxy(run, cluster)
  }
}

/** Second half of F37: a proxy that closes idle connections. */
const checkIdleProxy = async (run: FaultRun, cluster: TestCluster): Promise<void> => {
  cluster.clientProxy.idleMillis = heartbeatTimeoutMillis
  await cluster.waitUntilCalm()
  cluster.fleet.reset()
  const links = cluster.clientProxy.cut()
  await requireWithin("all connections were reset", 10_000, () => cluster.fleet.closes.length >= links)
  await requireWithin("all clients are connected through the proxy", 30_000, () => cluster.fleet.isFullyConnected)
  const millis = 3 * heartbeatTimeoutMillis
  await withWriters(run, cluster, () => sleep(millis), { httpWriters: 0, sqlWriters: 0 })
  run.observe(
    `${links} idle for ${formatSeconds(millis)} behind a timeout of ${
      formatSeconds(heartbeatTimeoutMillis)
    }: closes ${cluster.fleet.closesByCode()}`
  )
  run.check(cluster.fleet.closes.length === 0, `closed behind the proxy: ${cluster.fleet.closesByCode()}`)
}

const memoryPressure: Fault = {
  id: "F38",
  name: "Memory pressure",
  injected:
    "a node with --max-old-space-size=256 and 5,000 agents; then 100 transactions over 20 tunnels, and all agents reconnect at once",
  expected: "no out-of-memory exit: the node serves, or rejects with 503 or 1013",
  nodes: 0,
  execute: async (run) => {
    await runManyClients(run, run.fleetSize < 100 ? 500 : 5_000, ["--max-old-space-size=256"])
  }
}

const fileDescriptors: Fault = {
  id: "F39",
  name: "File descriptors exhausted",
  injected: "a node under `ulimit -n 256` gets 600 unauthenticated connections, and 200 on the operators' port",
  expected:
    "connections above each port's share closed; operators and database keep theirs; every client can connect again afterwards",
  nodes: 1,
  execute: async (run, cluster) => {
    const directory = await makeTemporaryDirectory()
    const node = await ControlNode.make({
      name: "the node with few descriptors",
      dataDir: directory,
      shellPrefix: "ulimit -n 256",
      env: { ...cluster.node.options.env }
    })
    try {
      await node.start()
      const operator = operatorApi(node)
      const [agentId] = cluster.agentIds
      const sockets = Array.from({ length: 600 }, () => new RawWebSocket(node.wsPort))
      const strangers = Array.from({ length: 200 }, () => new RawWebSocket(node.apiPort, false))
      await waitUntil(3_000, () => sockets.every(({ closeCode, isOpen }) => isOpen || closeCode !== undefined))
      const open = sockets.filter(({ isOpen }) => isOpen).length
      run.observe(`${open} of 600 upgraded, the others closed`)
      run.check(open > 0 && open < 256, `${open} connections under 256 descriptors`)
      for (const socket of strangers) socket.cut()
      const during = await waitUntil(
        10_000,
        async () => (await operator.get("/readyz").catch(() => undefined))?.status === 200
      )
      run.check(during !== undefined, "operators were not answered while the clients' port was full")
      const written = await operator.post("/api/tunnels", { agentId, domain: "few.example.com", target: "localhost:1" })
      run.check(written.status === 201, `a write was answered with ${written.status}`)
      for (const socket of sockets) socket.cut()
      const back = await waitUntil(
        10_000,
        async () => (await tryLogin(node.wsPort, cluster.spareAgentKey)).outcome === "ready"
      )
      run.observe(
        `operators answered during the fault; a client connected ${formatSeconds(back ?? Number.NaN)} after the flood`
      )
      run.check(back !== undefined && node.isAlive, "the node does not recover")
      await operator.delete(`/api/tunnels/${written.body.id}`)
      run.observe(`memory ${formatMebibytes(await readMetric(node, "control_process_memory_bytes"))}`)
    } finally {
      await node.stop()
      removeDirectory(directory)
    }
    await withWriters(run, cluster, async () => {})
  }
}

export const limits: ReadonlyArray<Fault> = [sigtermUnderLoad, tlsFiles, memoryPressure, fileDescriptors]
