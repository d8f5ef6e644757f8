/** Measures TCP throughput through userspace WireGuard, beside plain TCP and wireguard-go in the same run. */
import type { Scenario } from "#bench/support/BenchRun.ts"
import { type Child, startNode, stopChild } from "#bench/support/childProcesses.ts"
import { IpcClient } from "#bench/support/ipcCalls.ts"
import type { ProbeHandlers } from "#bench/support/processProbe.ts"
import { reasonWithoutWireguardGo, WireguardGoPair } from "#bench/support/WireguardGoPair.ts"
import type { TunnelEndHandlers } from "#bench/tunnelEnd.ts"
import { generateKeyPairSync } from "node:crypto"

const megabyte = 1_000_000
const mtu = 1_280

/** Mean of all transfers in one direction. */
interface Result {
  readonly megabitsPerSecond: number
  /** CPU time of all processes at both ends. */
  readonly cpuMillisPerMegabyte: number
}

type Way = "upload" | "download"
type Results = Readonly<Record<Way, Result>>

export const tunnelThroughput: Scenario = {
  name: "tunnel-throughput",
  description: "one TCP connection through userspace WireGuard, through wireguard-go, and without a tunnel",
  timeoutMillis: 300_000,
  run: async (bench) => {
    const megabytes = bench.repetitions(100, 30)
    const userspace = await measureUserspace(megabytes)
    const plain = await measurePlain(10 * megabytes)
    for (const way of ["upload", "download"] as const) {
      bench.addRow({
        label: `tunnel ${way}: userspace and plain TCP`,
        control: text(userspace[way]),
        bare: text(plain[way]),
        ratio: userspace[way].megabitsPerSecond / plain[way].megabitsPerSecond
      })
    }
    const reason = reasonWithoutWireguardGo()
    if (reason !== undefined) {
      bench.log(`wireguard-go is not measured: ${reason}`)
      return
    }
    const go = await measureWireguardGo(megabytes)
    for (const way of ["upload", "download"] as const) {
      const perCore = go[way].cpuMillisPerMegabyte / userspace[way].cpuMillisPerMegabyte
      bench.addRow({
        label: `tunnel ${way}: userspace and wireguard-go, throughput per core`,
        control: text(userspace[way]),
        bare: text(go[way]),
        ratio: perCore,
        goal: "1.00 x",
        isMet: perCore >= 1
      })
    }
  }
}

const text = ({ cpuMillisPerMegabyte, megabitsPerSecond }: Result) =>
  `${Math.round(megabitsPerSecond)} Mbit/s, ${cpuMillisPerMegabyte.toFixed(1)} ms CPU/MB`

interface End {
  readonly child: Child
  readonly calls: IpcClient<TunnelEndHandlers>
  readonly probe: IpcClient<ProbeHandlers>
}

const startEnd = (namespace?: string): End => {
  const child = startNode("bench/tunnelEnd.ts", { withProbe: true, ...namespace === undefined ? {} : { namespace } })
  return {
    child,
    calls: new IpcClient(child.process, "tunnel end"),
    probe: new IpcClient(child.process, "tunnel end")
  }
}

/** Transfers in both directions after a warm-up. `otherCpu`: CPU time of more processes. */
async function transfer(
  ends: readonly [End, End],
  host: string,
  megabytes: number,
  otherCpu = () => 0
): Promise<Results> {
  const [client] = ends
  const cpu = async () => {
    const ofEnds = await Promise.all(ends.map(({ probe }) => probe.call("cpu", undefined as never)))
    return ofEnds.reduce((sum, millis) => sum + millis, otherCpu())
  }
  const measure = async (way: Way): Promise<Result> => {
    await client.calls.call(way, { host, bytes: megabytes * megabyte / 10 })
    const before = await cpu()
    const millis = await client.calls.call(way, { host, bytes: megabytes * megabyte })
    return {
      megabitsPerSecond: megabytes * 8 / (millis / 1_000),
      cpuMillisPerMegabyte: (await cpu() - before) / megabytes
    }
  }
  return { upload: await measure("upload"), download: await measure("download") }
}

async function withEnds<A>(
  namespaces: readonly [string | undefined, string | undefined],
  work: (ends: readonly [End, End]) => Promise<A>
): Promise<A> {
  const ends = [startEnd(namespaces[0]), startEnd(namespaces[1])] as const
  try {
    return await work(ends)
  } finally {
    await Promise.all(ends.map(({ child }) => stopChild(child.process)))
  }
}

function measurePlain(megabytes: number): Promise<Results> {
  return withEnds([undefined, undefined], async (ends) => {
    await ends[1].calls.call("serve", { host: "127.0.0.1" })
    return await transfer(ends, "127.0.0.1", megabytes)
  })
}

function measureUserspace(megabytes: number): Promise<Results> {
  return withEnds([undefined, undefined], async (ends) => {
    const [client, server] = [keyPair(), keyPair()]
    const addresses = ["10.99.2.1", "10.99.2.2"] as const
    await ends[0].calls.call("openDevice", client)
    const port = await ends[1].calls.call("openDevice", server)
    const peer = { keepaliveSeconds: 0, endpoint: undefined }
    await ends[1].calls.call("configure", {
      ...peer,
      publicKey: client.publicKey,
      address: addresses[0],
      localAddress: addresses[1]
    })
    await ends[0].calls.call("configure", {
      ...peer,
      publicKey: server.publicKey,
      address: addresses[1],
      localAddress: addresses[0],
      endpoint: { host: "127.0.0.1", port }
    })
    await ends[1].calls.call("serve", { host: addresses[1] })
    return await transfer(ends, addresses[1], megabytes)
  })
}

async function measureWireguardGo(megabytes: number): Promise<Results> {
  const pair = new WireguardGoPair()
  try {
    await pair.open(mtu)
    const [left, right] = pair.sides
    return await withEnds([left.namespace, right.namespace], async (ends) => {
      await ends[1].calls.call("serve", { host: right.inner })
      return await transfer(ends, right.inner, megabytes, () => pair.cpuMillis())
    })
  } finally {
    await pair.close()
  }
}

function keyPair(): { readonly privateKey: string; readonly publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync("x25519")
  const raw = (key: Buffer) => key.subarray(-32).toString("base64")
  return {
    privateKey: raw(privateKey.export({ format: "der", type: "pkcs8" })),
    publicKey: raw(publicKey.export({ format: "der", type: "spki" }))
  }
}
