/** F23, F25 to F27: slow senders, floods, frames that break RFC 6455, and hostile JSON. */
import { now, sleep } from "#bench/support/timing.ts"
import { clientFrame } from "#bench/support/LeanClient.ts"
import { quantile } from "#bench/support/quantiles.ts"
import { withWriters } from "#faults/checkGuarantees.ts"
import { frame, openAuthenticated, RawWebSocket } from "#faults/RawWebSocket.ts"
import type { TestCluster } from "#faults/TestCluster.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import { formatSeconds, requireWithin, waitUntil } from "#faults/waitUntil.ts"

const noClose = (run: FaultRun, { fleet }: TestCluster): void =>
  run.check(fleet.closes.length === 0, `other clients were closed: ${fleet.closesByCode()}`)

/** Checks how long the fleet's heartbeats took during the fault. */
const heartbeats = (run: FaultRun, { fleet }: TestCluster, maxMillis: number): void => {
  const p99 = quantile(fleet.heartbeatMillis, 0.99)
  run.observe(`other heartbeats: p99 ${p99.toFixed(0)} ms of ${fleet.heartbeatMillis.length}`)
  run.check(
    fleet.heartbeatMillis.length > 0 && p99 < maxMillis * run.timeFactor,
    `other heartbeats took ${p99.toFixed(0)} ms`
  )
}

const slowUpgrades: Fault = {
  id: "F23",
  name: "Slow upgrades, missing auth",
  injected:
    "200 sockets send their upgrade at one byte per second; 200 more upgrade and send nothing (auth timeout 4 s)",
  expected:
    "slow upgrades closed 5 to 10 s after their start; silent sockets closed with 4408; p99 of other heartbeats under 500 ms",
  nodes: 1,
  execute: async (run, cluster) => {
    await withWriters(run, cluster, async () => {
      const began = now()
      const loris = Array.from({ length: 200 }, () => new RawWebSocket(cluster.node.wsPort, false))
      const silent = Array.from({ length: 200 }, () => new RawWebSocket(cluster.node.wsPort))
      const text = "GET / HTTP/1.1\r\nHost: x\r\nX-Long: aaaaaaaaaaaaaaaaaaa"
      let sent = 0
      const dripping = setInterval(() => {
        for (const socket of loris) socket.write(text.charAt(sent % text.length))
        sent += 1
      }, 1_000)
      const late = await waitUntil(15_000, () => silent.every(({ closeCode }) => closeCode !== undefined))
      run.observe(`silent sockets closed with ${codesOf(silent)} after ${formatSeconds(late ?? Number.NaN)}`)
      run.check(silent.every(({ closeCode }) => closeCode === 4408), `silent sockets: ${codesOf(silent)}`)
      const cut = await waitUntil(15_000, () => loris.every(({ closeCode }) => closeCode !== undefined))
      clearInterval(dripping)
      run.check(cut !== undefined, "slow upgrades were not closed within another 15 s")
      run.observe(`slow upgrades closed after ${formatSeconds(now() - began)}`)
      for (const socket of [...loris, ...silent]) socket.cut()
    })
    heartbeats(run, cluster, 500)
    noClose(run, cluster)
  }
}

const codesOf = (sockets: ReadonlyArray<RawWebSocket>): string =>
  [...new Set(sockets.map(({ closeCode }) => closeCode ?? "open"))].join(", ")

const flood: Fault = {
  id: "F25",
  name: "Floods of messages, pings and connections",
  injected: "one client sends 100,000 messages, one sends 100,000 pings, and 5,000 silent connections open at once",
  expected:
    "4429 for the messages, a close for the pings, 503 or a close for excess connections; p99 of other heartbeats under 500 ms",
  nodes: 1,
  execute: async (run, cluster) => {
    const key = cluster.spareAgentKey
    const isShort = cluster.options.clients < 100
    await withWriters(run, cluster, async () => {
      const talker = await openAuthenticated(cluster.node.wsPort, cluster.spareAgentKey)
      const message = clientFrame(1, "{\"type\":\"heartbeat\",\"data\":{\"timestamp\":1}}")
      await writeMany(talker, message, 100_000)
      await waitUntil(10_000, () => talker.closeCode !== undefined)
      run.observe(`messages: ${talker.closeCode}`)
      run.check(talker.closeCode === 4429, `the flood of messages ended with ${talker.closeCode}`)
      const pinger = new RawWebSocket(cluster.node.wsPort)
      await requireWithin("the upgrade is answered", 5_000, () => pinger.isOpen)
      pinger.send({ type: "auth", data: { apiKey: key } })
      await writeMany(pinger, frame(0x89, Buffer.alloc(0)), 100_000)
      await waitUntil(10_000, () => pinger.closeCode !== undefined)
      run.observe(`pings: ${pinger.closeCode}`)
      run.check(pinger.closeCode !== undefined, "the flood of pings was not closed")
      pinger.cut()
      const sockets = Array.from({ length: isShort ? 1_500 : 5_000 }, () => new RawWebSocket(cluster.node.wsPort))
      await waitUntil(10_000, () => sockets.every(({ closeCode, isOpen }) => isOpen || closeCode !== undefined))
      const open = sockets.filter(({ isOpen }) => isOpen).length
      const rejected = sockets.filter(({ head }) => head.startsWith("HTTP/1.1 503")).length
      const closed = sockets.filter(({ closeCode, head }) => head === "" && closeCode !== undefined).length
      run.observe(`connections: ${open} accepted, ${rejected} rejected with 503, ${closed} closed before their request`)
      run.check(
        open <= 1_024 && open + rejected + closed === sockets.length,
        `${open} connections were accepted, ${rejected} rejected and ${closed} closed of ${sockets.length}`
      )
      for (const socket of sockets) socket.cut()
    })
    heartbeats(run, cluster, 500)
    noClose(run, cluster)
  }
}

/** Writes as fast as the socket accepts data. */
const writeMany = async (raw: RawWebSocket, bytes: Buffer, count: number): Promise<void> => {
  const many = Buffer.concat(Array.from({ length: 500 }, () => bytes))
  for (let sent = 0; sent < count && raw.closeCode === undefined && raw.socket.writable; sent += 500) {
    if (!raw.socket.write(many)) {
      await Promise.race([
        new Promise((resolve) => raw.socket.once("drain", resolve)),
        new Promise((resolve) => raw.socket.once("close", resolve)),
        sleep(2_000)
      ])
    }
  }
}

const frames: ReadonlyArray<readonly [what: string, bytes: Buffer, codes: ReadonlyArray<number>]> = [
  ["a message of 1 MiB", frame(0x81, Buffer.alloc(1_048_576, 0x20)), [1009]],
  ["a frame header for 2^40 bytes", Buffer.from([0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [1009]],
  ["bad UTF-8", frame(0x81, Buffer.from([0x7b, 0xff, 0xfe])), [1007]],
  ["a reserved bit", frame(0xc1, Buffer.from("{}")), [1002]],
  ["an unmasked frame", frame(0x81, Buffer.from("{}"), { masked: false }), [1002]],
  ["a reserved opcode", frame(0x83, Buffer.from("{}")), [1002]],
  ["a fragmented ping", frame(0x09, Buffer.alloc(2)), [1002]],
  ["a ping of 126 bytes", frame(0x89, Buffer.alloc(126)), [1002]],
  ["a continuation without a first frame", frame(0x80, Buffer.from("{}")), [1002]],
  ["a binary frame", frame(0x82, Buffer.from("{}")), [4400]],
  [
    "20,000 fragments of one byte",
    Buffer.concat([frame(0x01, Buffer.from("{")), ...Array.from({ length: 20_000 }, () => frame(0, Buffer.from(" ")))]),
    [1008, 1009, 4429, 4400]
  ]
]

const brokenFrames: Fault = {
  id: "F26",
  name: "Invalid WebSocket frames",
  injected: "hand-made invalid frames, and 20,000 mutated frames over several hundred connections",
  expected: "each connection closed with the code of RFC 6455; process alive; other clients unaffected",
  nodes: 1,
  execute: async (run, cluster) => {
    await withWriters(run, cluster, async () => {
      for (const [what, bytes, codes] of frames) {
        const raw = new RawWebSocket(cluster.node.wsPort)
        await requireWithin("the upgrade is answered", 5_000, () => raw.isOpen)
        raw.write(bytes)
        await waitUntil(6_000, () => raw.closeCode !== undefined)
        run.check(codes.includes(raw.closeCode ?? 0), `${what}: ${raw.closeCode ?? "open"}`)
        raw.cut()
      }
      run.observe(`${frames.length} invalid frames answered with the expected code`)
      let sent = 0
      while (sent < 20_000) {
        const sockets = Array.from({ length: 20 }, () => new RawWebSocket(cluster.node.wsPort))
        await requireWithin("the upgrades are answered", 5_000, () => sockets.every(({ isOpen }) => isOpen))
        for (const socket of sockets) {
          for (let index = 0; index < 50; index += 1) socket.write(mutated(run))
          sent += 50
        }
        await sleep(20)
        for (const socket of sockets) socket.cut()
      }
      run.observe(
        `${sent} mutated frames; the fuzzer (docs/hostile.md) sends more`
      )
    })
    run.notTested("a deflate bomb, because Control negotiates no compression")
    noClose(run, cluster)
  }
}

/** A frame with one to four random bytes. */
const mutated = ({ random }: FaultRun): Buffer => {
  const bytes = clientFrame(1, "{\"type\":\"auth\",\"data\":{\"apiKey\":\"ctl_agt_nobody\"}}")
  for (let index = random.between(1, 4); index > 0; index -= 1) bytes[random.int(bytes.length)] = random.int(256)
  return bytes
}

const hostileTexts: ReadonlyArray<readonly [string, string]> = [
  ["deep arrays", "[".repeat(60_000)],
  ["deep data", `{"type":"status","data":${"[".repeat(20_000)}${"]".repeat(20_000)}}`],
  [
    "many keys",
    `{"type":"heartbeat","data":{"timestamp":1,${
      Array.from({ length: 15_000 }, (_, index) => `"k${index}":1`).join(",")
    }}}`
  ],
  [
    "__proto__",
    "{\"type\":\"heartbeat\",\"__proto__\":{\"isAdmin\":true},\"data\":{\"timestamp\":1,\"__proto__\":{\"isAdmin\":true}}}"
  ],
  [
    "constructor",
    "{\"type\":\"heartbeat\",\"data\":{\"timestamp\":1,\"constructor\":{\"prototype\":{\"isAdmin\":true}}}}"
  ],
  [
    "a lone surrogate",
    "{\"type\":\"status\",\"data\":{\"tunnels\":[{\"domain\":\"\\ud800\",\"status\":\"\\udfff\"}]}}"
  ],
  ["NUL", "{\"type\":\"status\",\"data\":{\"tunnels\":[{\"domain\":\"a\\u0000b\",\"status\":\"\\u0000\"}]}}"],
  ["a number above 2^53", "{\"type\":\"heartbeat\",\"data\":{\"timestamp\":9007199254740993}}"],
  ["a number beyond the range of doubles", "{\"type\":\"heartbeat\",\"data\":{\"timestamp\":1e999}}"],
  ["NaN", "{\"type\":\"heartbeat\",\"data\":{\"timestamp\":NaN}}"],
  ["null data", "{\"type\":\"heartbeat\",\"data\":null}"],
  ["a type named like an object property", "{\"type\":\"__proto__\",\"data\":{}}"],
  ["another type named like an object property", "{\"type\":\"toString\",\"data\":{}}"],
  ["an array", "[]"]
]

const hostileJson: Fault = {
  id: "F27",
  name: "Hostile JSON",
  injected:
    `${hostileTexts.length} texts: 60,000 open brackets, 15,000 keys, \`__proto__\`, lone surrogates, NUL, NaN, 2^53+1, …`,
  expected:
    "an error, or no effect for a harmless text; session stays open; no prototype pollution; no 5xx from the API",
  nodes: 1,
  execute: async (run, cluster) => {
    await withWriters(run, cluster, async () => {
      for (const [what, text] of hostileTexts) {
        const raw = await openAuthenticated(cluster.node.wsPort, cluster.spareAgentKey)
        raw.send(text)
        raw.send({ type: "no_such_type", data: {} })
        const answered = await waitUntil(5_000, () => raw.texts.some((each) => each.includes("no_such_type")))
        run.check(answered !== undefined, `after ${what} the session was closed: ${raw.closeCode ?? "silent"}`)
        raw.cut()
        const { status } = await cluster.node.operator.post("/api/tunnels", text)
        run.check(status >= 400 && status < 500, `the API answered ${what} with ${status}`)
      }
      run.observe(`${hostileTexts.length} texts, each to the WebSocket port and the API`)
    })
    noClose(run, cluster)
  }
}

export const hostile: ReadonlyArray<Fault> = [slowUpgrades, flood, brokenFrames, hostileJson]
