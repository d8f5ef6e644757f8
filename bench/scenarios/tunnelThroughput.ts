/** Measures TCP through userspace WireGuard, with plain TCP and wireguard-go for comparison. */
import type { BenchRun, Scenario } from "#bench/support/BenchRun.ts"
import { type Child, startNode, stopChild } from "#bench/support/childProcesses.ts"
import { IpcClient } from "#bench/support/ipcCalls.ts"
import type { ProbeHandlers } from "#bench/support/processProbe.ts"
import { reasonWithoutWireguardGo, WireguardGoPair } from "#bench/support/WireguardGoPair.ts"
import type { TunnelEndHandlers } from "#bench/tunnelEnd.ts"
import { generateKeyPairSync } from "node:crypto"

const megabyte = 1_000_000
const mtu = 1_280

/** Median of the rounds. */
interface Result {
  readonly megabitsPerSecond: number
  /** CPU time of all processes at both ends. */
  readonly cpuMillisPerMegabyte: number
}

type Way = "upload" | "download"
const ways = ["upload", "download"] as const

interface End {
  readonly child: Child
  readonly calls: IpcClient<TunnelEndHandlers>
  readonly probe: IpcClient<ProbeHandlers>
}

/** A way to carry the bytes. */
interface Setup {
  readonly client: End
  readonly server: End
  /** Address of the server. */
  readonly host: string
  /** Bytes of one transfer, in megabytes. */
  readonly megabytes: number
  /** CPU time of more processes so far. */
  readonly otherCpu: () => number
  readonly results: Record<Way, Array<Result>>
}

export const tunnelThroughput: Scenario = {
  name: "tunnel-throughput",
  description: "one TCP connection through userspace WireGuard, through wireguard-go, and without a tunnel",
  timeoutMillis: 300_000,
  run: async (bench) => {
    const megabytes = bench.repetitions(60, 30)
    const reason = reasonWithoutWireguardGo()
    if (reason !== undefined) bench.log(`wireguard-go is not measured: ${reason}`)
    const pair = reason === undefined ? new WireguardGoPair() : undefined
    const children: Array<Child> = []
    try {
      const userspace = await openUserspace(children, megabytes)
      const plain = await openPlain(children, 10 * megabytes)
      const go = pair && await openWireguardGo(children, pair, megabytes)
      // The load of the machine changes, so that the rounds alternate.
      for (let round = 0; round < bench.repetitions(5, 3); round += 1) {
        for (const setup of [userspace, plain, ...go === undefined ? [] : [go]]) {
          await transferBothWays(setup, round === 0)
        }
      }
      for (const way of ways) addRows(bench, way, userspace, plain, go)
    } finally {
      await Promise.all(children.map((child) => stopChild(child.process)))
      await pair?.close()
    }
  }
}

function addRows(bench: BenchRun, way: Way, userspace: Setup, plain: Setup, go: Setup | undefined): void {
  const [own, direct] = [median(userspace, way), median(plain, way)]
  bench.addRow({
    label: `tunnel ${way}: userspace and plain TCP`,
    control: text(own),
    bare: text(direct),
    ratio: own.megabitsPerSecond / direct.megabitsPerSecond
  })
  if (go === undefined) return
  const other = median(go, way)
  const perCore = other.cpuMillisPerMegabyte / own.cpuMillisPerMegabyte
  bench.addRow({
    label: `tunnel ${way}: userspace and wireguard-go, throughput per core`,
    control: text(own),
    bare: text(other),
    ratio: perCore,
    goal: "1.00 x",
    isMet: perCore >= 1
  })
}

const text = ({ cpuMillisPerMegabyte, megabitsPerSecond }: Result) =>
  `${Math.round(megabitsPerSecond)} Mbit/s, ${cpuMillisPerMegabyte.toFixed(1)} ms CPU/MB`

const median = ({ results }: Setup, way: Way): Result => {
  const middle = (of: (result: Result) => number) =>
    results[way].map(of).toSorted((a, b) => a - b)[Math.floor(results[way].length / 2)]!
  return {
    megabitsPerSecond: middle((result) => result.megabitsPerSecond),
    cpuMillisPerMegabyte: middle((result) => result.cpuMillisPerMegabyte)
  }
}

async function transferBothWays(setup: Setup, isWarmUp: boolean): Promise<void> {
  const { client, host, megabytes, otherCpu, results, server } = setup
  const cpu = async () => {
    const ofEnds = await Promise.all([client, server].map(({ probe }) => probe.call("cpu", undefined as never)))
    return ofEnds.reduce((sum, millis) => sum + millis, otherCpu())
  }
  for (const way of ways) {
    if (isWarmUp) await client.calls.call(way, { host, bytes: 10 * megabyte })
    const before = await cpu()
    const millis = await client.calls.call(way, { host, bytes: megabytes * megabyte })
    results[way].push({
      megabitsPerSecond: megabytes * 8 / (millis / 1_000),
      cpuMillisPerMegabyte: (await cpu() - before) / megabytes
    })
  }
}

const startEnd = (children: Array<Child>, namespace?: string): End => {
  const child = startNode("bench/tunnelEnd.ts", { withProbe: true, ...namespace === undefined ? {} : { namespace } })
  children.push(child)
  return {
    child,
    calls: new IpcClient(child.process, "tunnel end"),
    probe: new IpcClient(child.process, "tunnel end")
  }
}

const setupOf = (client: End, server: End, host: string, megabytes: number, otherCpu = () => 0): Setup => ({
  client,
  server,
  host,
  megabytes,
  otherCpu,
  results: { upload: [], download: [] }
})

async function openPlain(children: Array<Child>, megabytes: number): Promise<Setup> {
  const [client, server] = [startEnd(children), startEnd(children)]
  await server.calls.call("serve", { host: "127.0.0.1" })
  return setupOf(client, server, "127.0.0.1", megabytes)
}

async function openUserspace(children: Array<Child>, megabytes: number): Promise<Setup> {
  const [client, server] = [startEnd(children), startEnd(children)]
  const [clientKeys, serverKeys] = [keyPair(), keyPair()]
  const [clientAddress, serverAddress] = ["10.99.2.1", "10.99.2.2"] as const
  await client.calls.call("openDevice", clientKeys)
  const port = await server.calls.call("openDevice", serverKeys)
  await server.calls.call("configure", {
    publicKey: clientKeys.publicKey,
    address: clientAddress,
    localAddress: serverAddress,
    endpoint: undefined,
    keepaliveSeconds: 0
  })
  await client.calls.call("configure", {
    publicKey: serverKeys.publicKey,
    address: serverAddress,
    localAddress: clientAddress,
    endpoint: { host: "127.0.0.1", port },
    keepaliveSeconds: 0
  })
  await server.calls.call("serve", { host: serverAddress })
  return setupOf(client, server, serverAddress, megabytes)
}

async function openWireguardGo(children: Array<Child>, pair: WireguardGoPair, megabytes: number): Promise<Setup> {
  await pair.open(mtu)
  const [left, right] = pair.sides
  const [client, server] = [startEnd(children, left.namespace), startEnd(children, right.namespace)]
  await server.calls.call("serve", { host: right.inner })
  return setupOf(client, server, right.inner, megabytes, () => pair.cpuMillis())
}

function keyPair(): { readonly privateKey: string; readonly publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync("x25519")
  const raw = (key: Buffer) => key.subarray(-32).toString("base64")
  return {
    privateKey: raw(privateKey.export({ format: "der", type: "pkcs8" })),
    publicKey: raw(publicKey.export({ format: "der", type: "spki" }))
  }
}
