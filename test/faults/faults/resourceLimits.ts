/** F19, F37 to F39: a stop in the middle of a storm, TLS that is replaced, little memory, and few file descriptors. */
import { now, sleep } from "#bench/support/clock.ts"
import { ControlNode } from "#faults/ControlNode.ts"
import { newDirectory, operatorOf, remove } from "#faults/embeddedNode.ts"
import type { Close } from "#faults/ClientFleet.ts"
import { underLoad } from "#faults/checkGuarantees.ts"
import { crowdOfMany } from "#faults/memoryPressure.ts"
import { megabytes, metricOf } from "#faults/nodeMetrics.ts"
import { tryKey } from "#faults/tryLogin.ts"
import { enter, RawSocket } from "#faults/RawWebSocket.ts"
import { heartbeatTimeoutMillis } from "#faults/TestCluster.ts"
import type { Fault } from "#faults/FaultRun.ts"
import { holdsWithin, mustHold, seconds } from "#faults/waitUntil.ts"
import { issueCertificate } from "#support/certificates.ts"
import { renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { connect } from "node:tls"
import { WebSocket } from "ws"

const termInStorm: Fault = {
  id: "F19",
  name: "SIGTERM during a storm",
  injected: "SIGTERM while 200 connections a second come, writers write, and a gateway sends certificates",
  expected: "exit 0 within 15 s, 1012 for all who were in, and a row for every certificate that was accepted",
  nodes: 1,
  run: async (trial, stage) => {
    const rows = await stage.postgres.query(
      "select domain from tunnels where domain like 'app-%' and domain not in (select domain from certificates) order by 1 limit 10"
    )
    const messages = rows.map(({ domain }) => ({
      type: "certificate_obtained",
      data: { domain: String(domain), ...issueCertificate({ names: [String(domain)] }) }
    }))
    for (const { data } of messages) stage.certificateKeys.set(data.domain, data.privateKey)
    const accepted = new Set<string>()
    await underLoad(trial, stage, async (ledger) => {
      const raw = await enter(stage.node.wsPort, stage.spareGatewayKey, true)
      const sockets: Array<RawSocket> = []
      const storm = setInterval(() => {
        for (let index = 0; index < 10; index += 1) sockets.push(new RawSocket(stage.node.wsPort))
        for (const socket of sockets.slice(-30)) {
          if (socket.isOpen) socket.send({ type: "auth", data: { apiKey: "ctl_agt_nobody" } })
        }
      }, 50)
      try {
        await sleep(1_000)
        for (const message of messages.slice(0, 5)) raw.send(message)
        await holdsWithin(2_000, () => raw.texts.some((text) => text.includes("certificate_accepted")))
        for (const message of messages.slice(5)) raw.send(message)
        const began = now()
        stage.node.signal("SIGTERM")
        const took = await holdsWithin(30_000, () => !stage.node.isAlive)
        const code = took === undefined ? "nothing" : await stage.node.exited
        trial.saw(`exit ${code} after ${seconds(now() - began)} with ${sockets.length} connections made`)
        trial.check(
          took !== undefined && took < 15_000 && code === 0,
          `ended with ${code} after ${seconds(took ?? Infinity)}`
        )
      } finally {
        clearInterval(storm)
        for (const socket of sockets) socket.cut()
      }
      for (const text of raw.texts) {
        const [, domain] = /^\{"type":"certificate_accepted","data":\{"domain":"([^"]+)"/u.exec(text) ?? []
        if (domain !== undefined) accepted.add(domain)
      }
      ledger.note("unknown", messages.length)
    }, { mayRestart: true })
    const there = new Set(
      (await stage.postgres.query("select domain from certificates")).map(({ domain }) => String(domain))
    )
    const missing = [...accepted].filter((domain) => !there.has(domain))
    const stored = messages.filter(({ data }) => there.has(data.domain)).length
    trial.saw(
      `of ${messages.length} certificates ${accepted.size} accepted, ${stored} stored; closes: ${stage.crowd.closesByCode()}`
    )
    trial.check(missing.length === 0, `accepted, and not there: ${missing.join(", ")}`)
    // Later ones are of clients that came back too early: nobody was there.
    const isFirst = (close: Close) => stage.crowd.closes.find(({ client }) => client === close.client) === close
    const wrong = stage.crowd.closes.filter((close) => isFirst(close) && close.code !== 1012)
    trial.check(wrong.length === 0, `closed with ${stage.crowd.closesByCode(wrong)}`)
    for (const { data } of messages) await stage.node.operator.delete(`/api/certificates/${data.domain}`)
  }
}

/** The certificate that a new connection is shown. */
const shown = (port: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", servername: "localhost", rejectUnauthorized: false })
    socket.once("error", reject).once("secureConnect", () => {
      resolve(String(socket.getPeerX509Certificate()?.toString()).replaceAll("\n", ""))
      socket.destroy()
    })
  })

/** Renamed into their places, as every careful tool does it. */
const place = (directory: string): string => {
  const { certificate, privateKey } = issueCertificate({ names: ["localhost"] })
  for (const [name, text] of [["key.pem", privateKey], ["certificate.pem", certificate]] as const) {
    writeFileSync(join(directory, `${name}.new`), text, { mode: 0o600 })
    renameSync(join(directory, `${name}.new`), join(directory, name))
  }
  return certificate.replaceAll("\n", "")
}

const edgeOfTls: Fault = {
  id: "F37",
  name: "TLS rotated, proxy idle time-out",
  injected:
    "the certificate's files are replaced three times, once by rubbish, under two connected clients; then a proxy cuts what is idle for as long as the heartbeat timeout, while nothing changes for three times that",
  expected:
    "new connections see the new certificate, rubbish changes nothing, nobody is closed; heartbeats keep the idle ones up",
  nodes: 1,
  run: async (trial, stage) => {
    const directory = await newDirectory()
    let current = place(directory)
    const node = await ControlNode.make({
      name: "the one with TLS",
      dataDir: join(directory, "data"),
      env: {
        ...stage.node.options.env,
        CONTROL_TLS_CERTIFICATE: join(directory, "certificate.pem"),
        CONTROL_TLS_PRIVATE_KEY: join(directory, "key.pem")
      }
    })
    // `start` asks in plaintext: the port that answers in TLS is waited for instead.
    node.spawn()
    const clients: Array<WebSocket> = []
    let closes = 0
    try {
      await mustHold("it speaks TLS", 30_000, () => shown(node.wsPort).then(() => true, () => false))
      for (const apiKey of [stage.spareKey, stage.spareGatewayKey]) {
        const ws = new WebSocket(`wss://127.0.0.1:${node.wsPort}/`, { rejectUnauthorized: false })
        ws.on("error", () => {}).on("close", () => closes += 1)
        ws.on("open", () => ws.send(JSON.stringify({ type: "auth", data: { apiKey } })))
        ws.once("message", () => clients.push(ws))
      }
      await mustHold("both are in", 10_000, () => clients.length === 2)
      const beating = setInterval(() => {
        for (const ws of clients) ws.send("{\"type\":\"heartbeat\",\"data\":{\"timestamp\":1}}")
      }, 1_000)
      const times: Array<number> = []
      try {
        for (let round = 0; round < 3; round += 1) {
          if (round === 1) {
            writeFileSync(join(directory, "certificate.pem"), "rubbish")
            await sleep(1_500)
            trial.check(await shown(node.wsPort) === current, "rubbish has changed the certificate")
          }
          current = place(directory)
          const took = await holdsWithin(20_000, async () => await shown(node.wsPort) === current)
          trial.check(took !== undefined, "a replaced certificate is not shown to new connections")
          times.push(took ?? Number.NaN)
        }
      } finally {
        clearInterval(beating)
      }
      trial.saw(`3 certificates shown after ${times.map((millis) => seconds(millis)).join(", ")}`)
      trial.check(closes === 0, "a client was closed by a change of files")
    } finally {
      for (const ws of clients) ws.terminate()
      await node.stop()
      remove(directory)
    }
    await idleProxy.run(trial, stage)
  }
}

/** The second half of F37. */
const idleProxy = {
  run: async (trial: Parameters<Fault["run"]>[0], stage: Parameters<Fault["run"]>[1]): Promise<void> => {
    stage.edge.idleMillis = heartbeatTimeoutMillis
    await stage.isCalm()
    stage.crowd.reset()
    const links = stage.edge.cut()
    await mustHold("all were cut", 10_000, () => stage.crowd.closes.length >= links)
    await mustHold("all are back through the proxy", 30_000, () => stage.crowd.isComplete)
    const millis = 3 * heartbeatTimeoutMillis
    await underLoad(trial, stage, () => sleep(millis), { http: 0, sql: 0 })
    trial.saw(
      `${links} idle for ${seconds(millis)} behind a time-out of ${
        seconds(heartbeatTimeoutMillis)
      }: closes ${stage.crowd.closesByCode()}`
    )
    trial.check(stage.crowd.closes.length === 0, `closed behind the proxy: ${stage.crowd.closesByCode()}`)
  }
}

const littleMemory: Fault = {
  id: "F38",
  name: "Memory pressure",
  injected:
    "a node with --max-old-space-size=256 and 5,000 agents of a network with 5,000 of them and 20 tunnels; then 2,000 changes, and all of them come back at once",
  expected: "alive, no OOM: it serves, or sheds with 503 or 1013",
  nodes: 0,
  run: async (trial) => {
    await crowdOfMany(trial, trial.clients < 100 ? 500 : 5_000, ["--max-old-space-size=256"])
  }
}

const fewDescriptors: Fault = {
  id: "F39",
  name: "File descriptors run out",
  injected: "a node under `ulimit -n 256` gets 600 connections of strangers, and the operators' port 200",
  expected:
    "connections over each port's share are cut; operators and the database keep theirs; all comes in again afterwards",
  nodes: 1,
  run: async (trial, stage) => {
    const directory = await newDirectory()
    const node = await ControlNode.make({
      name: "the one with few descriptors",
      dataDir: directory,
      before: "ulimit -n 256",
      env: { ...stage.node.options.env }
    })
    try {
      await node.start()
      const operator = operatorOf(node)
      const [agentId] = stage.agentIds
      const sockets = Array.from({ length: 600 }, () => new RawSocket(node.wsPort))
      const strangers = Array.from({ length: 200 }, () => new RawSocket(node.apiPort, false))
      await holdsWithin(3_000, () => sockets.every(({ closeCode, isOpen }) => isOpen || closeCode !== undefined))
      const open = sockets.filter(({ isOpen }) => isOpen).length
      trial.saw(`${open} of 600 upgraded, the others cut`)
      trial.check(open > 0 && open < 256, `${open} connections under 256 descriptors`)
      for (const socket of strangers) socket.cut()
      const during = await holdsWithin(
        10_000,
        async () => (await operator.get("/readyz").catch(() => undefined))?.status === 200
      )
      trial.check(during !== undefined, "operators were not answered while the clients' port was full")
      const written = await operator.post("/api/tunnels", { agentId, domain: "few.example.com", target: "localhost:1" })
      trial.check(written.status === 201, `a write was answered with ${written.status}`)
      for (const socket of sockets) socket.cut()
      const back = await holdsWithin(
        10_000,
        async () => (await tryKey(node.wsPort, stage.spareKey)).outcome === "ready"
      )
      trial.saw(`operators answered meanwhile; a client is in ${seconds(back ?? Number.NaN)} after the flood`)
      trial.check(back !== undefined && node.isAlive, "it does not recover")
      await operator.delete(`/api/tunnels/${written.body.id}`)
      trial.saw(`memory ${megabytes(await metricOf(node, "control_process_memory_bytes"))}`)
    } finally {
      await node.stop()
      remove(directory)
    }
    await underLoad(trial, stage, async () => {})
  }
}

export const limits: ReadonlyArray<Fault> = [termInStorm, edgeOfTls, littleMemory, fewDescriptors]
