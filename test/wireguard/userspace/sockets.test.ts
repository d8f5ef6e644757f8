/** TCP sockets of the userspace device over real WireGuard on the loopback interface. */
import { systemClock } from "#processes/clock.ts"
import { ManualClock } from "#support/ManualClock.ts"
import { openUserspaceDevice } from "#wireguard/userspace/UserspaceDevice.ts"
import { assert, it } from "@effect/vitest"
import { createHash, randomBytes } from "node:crypto"
import { once } from "node:events"
import { setImmediate } from "node:timers/promises"
import { DevicePair, digest, failure, halfOpen, leftAddress, rightAddress } from "./DevicePair.ts"

const turns = async (count: number) => {
  for (let turn = 0; turn < count; turn += 1) await setImmediate()
}

it("5 MB come back unchanged from an echo, and the end of each direction arrives after them", async () => {
  await using pair = await DevicePair.open()
  await pair.serveEcho(20_000)
  const socket = pair.dial(20_000)
  const content = randomBytes(5_000_000)
  const received = digest(socket)
  socket.end(content)
  assert.strictEqual(await received, createHash("sha256").update(content).digest("hex"))
})

it("a client that has ended its direction still receives, and the server too", async () => {
  await using pair = await DevicePair.open()
  for (const isClientFirst of [true, false]) {
    const [client, server] = await pair.connect(isClientFirst ? 20_001 : 20_002)
    const [first, last] = isClientFirst ? [client, server] : [server, client]
    const firstReads = digest(first)
    const lastReads = digest(last)
    first.end("one")
    assert.strictEqual(await lastReads, createHash("sha256").update("one").digest("hex"))
    const content = randomBytes(300_000)
    last.end(content)
    assert.strictEqual(await firstReads, createHash("sha256").update(content).digest("hex"))
    for (const socket of [client, server]) if (!socket.closed) await once(socket, "close")
    assert.deepStrictEqual([client.errored, server.errored], [null, null])
  }
})

it("connect reports addresses, and fails as net.connect does: refused, rejected, unreachable", async () => {
  await using pair = await DevicePair.open()
  const [client, server] = await pair.connect(20_003)
  assert.deepStrictEqual(
    [client.connecting, client.localAddress, client.remoteAddress, client.remotePort, server.remoteAddress],
    [false, leftAddress, rightAddress, 20_003, leftAddress]
  )
  assert.strictEqual(await failure(pair.dial(20_004)), "ECONNREFUSED")
  await pair.right.listen(20_005, (incoming) => incoming.reject())
  assert.strictEqual(await failure(pair.dial(20_005)), "ECONNREFUSED")
  assert.strictEqual(await failure(pair.dial(20_003, "10.64.0.9")), "EHOSTUNREACH")
})

it("connect fails with ETIMEDOUT after its time if nothing answers", async () => {
  const clock = new ManualClock()
  await using pair = await DevicePair.open(clock)
  await pair.right.close()
  const socket = pair.dial(20_000, rightAddress, 5_000)
  const failed = failure(socket)
  await turns(3)
  clock.advance(4_900)
  await turns(3)
  assert.isTrue(socket.connecting)
  clock.advance(200)
  assert.strictEqual(await failed, "ETIMEDOUT")
})

it("destroy delivers what was written; with unread bytes it resets; resetAndDestroy resets", async () => {
  await using pair = await DevicePair.open()
  const [client, server] = await pair.connect(20_006)
  const received = digest(server)
  const content = randomBytes(100_000)
  client.write(content)
  client.destroy()
  assert.strictEqual(await received, createHash("sha256").update(content).digest("hex"))

  const [unread, sender] = await pair.connect(20_007)
  sender.write("not read")
  await once(unread, "readable")
  unread.destroy()
  assert.strictEqual(await failure(sender), "ECONNRESET")

  const [resetting, reset] = await pair.connect(20_008)
  resetting.resetAndDestroy()
  assert.strictEqual(await failure(reset), "ECONNRESET")
})

it("an orderly end is never a reset, also if the last bytes and the end come together", async () => {
  await using pair = await DevicePair.open()
  await pair.right.listen(20_009, (incoming) => void halfOpen(incoming.accept()).end("last bytes"))
  for (let count = 0; count < 20; count += 1) {
    const socket = pair.dial(20_009)
    const faults: Array<Error> = []
    socket.on("error", (fault) => faults.push(fault))
    assert.strictEqual(await digest(socket), createHash("sha256").update("last bytes").digest("hex"))
    if (!socket.closed) await once(socket, "close")
    assert.deepStrictEqual(faults, [])
  }
})

it("a write that waits for room fails when the connection is reset", async () => {
  await using pair = await DevicePair.open()
  const [client, server] = await pair.connect(20_010)
  const results: Array<unknown> = []
  for (let count = 0; count < 40; count += 1) {
    client.write(Buffer.alloc(100_000), (error) => results.push((error as NodeJS.ErrnoException | null)?.code))
  }
  await once(server, "readable")
  server.resetAndDestroy()
  await failure(client)
  await turns(2)
  assert.lengthOf(results, 40)
  assert.include(results, "ECONNRESET")
})

it("a reader that stops stops the writer, with less than 4 MiB on the way", async () => {
  await using pair = await DevicePair.open()
  const [client, server] = await pair.connect(20_011)
  let written = 0
  for (let idle = 0; idle < 100; idle += 1) {
    while (!client.writableNeedDrain && written < 10_000_000) {
      client.write(Buffer.alloc(65_536))
      written += 65_536
      idle = 0
    }
    await turns(5)
  }
  assert.isBelow(written, 4 * 1024 * 1024)
  let received = 0
  server.on("data", (chunk: Buffer) => void (received += chunk.length))
  client.end()
  await once(server, "end")
  assert.isAtLeast(received, written)
})

it("setTimeout emits timeout after idle time, again after the next activity, and not after setTimeout(0)", async () => {
  const clock = new ManualClock()
  await using pair = await DevicePair.open(clock)
  await pair.serveEcho(20_012)
  const socket = pair.dial(20_012)
  await once(socket, "connect")
  let timeouts = 0
  const count = () => void (timeouts += 1)
  socket.setTimeout(1_000)
  socket.on("timeout", count)
  clock.advance(900)
  socket.write("a")
  await once(socket, "data")
  clock.advance(900)
  assert.strictEqual(timeouts, 0)
  clock.advance(200)
  clock.advance(5_000)
  assert.strictEqual(timeouts, 1)
  socket.write("b")
  await once(socket, "data")
  clock.advance(1_100)
  assert.deepStrictEqual([timeouts, socket.destroyed], [2, false])
  socket.setTimeout(0)
  clock.advance(5_000)
  assert.strictEqual(timeouts, 2)
})

it("a destroyed socket whose peer keeps its direction open is reset after 60 s, and leaves no timer", async () => {
  const clock = new ManualClock()
  await using pair = await DevicePair.open(clock)
  const [client, server] = await pair.connect(20_013)
  server.resume()
  client.destroy()
  await once(server, "end")
  const failed = failure(server)
  await turns(20)
  clock.advance(61_000)
  assert.strictEqual(await failed, "ECONNRESET")
})

it("device.close resets the connections of the peer, and fails later connects and writes without throwing", async () => {
  await using pair = await DevicePair.open()
  const [client, server] = await pair.connect(20_014)
  const udp = await pair.left.bindUdp(0, () => {})
  const failed = failure(server)
  const own = failure(client)
  await pair.left.close()
  assert.deepStrictEqual([await failed, await own], ["ECONNRESET", "ECONNRESET"])
  udp.send(Buffer.from("late"), { address: rightAddress, port: 1 })
  pair.left.renewHandshakes()
  assert.strictEqual(await failure(pair.dial(20_014)), "EHOSTUNREACH")
})

it("a device on a port that is in use rejects with EADDRINUSE", async () => {
  await using pair = await DevicePair.open()
  const options = { privateKey: pair.leftKeys.privateKey, listenPort: pair.left.listenPort, mtu: 1_280 }
  const opened = await openUserspaceDevice({ ...options, clock: systemClock }).catch((error: NodeJS.ErrnoException) =>
    error.code
  )
  assert.strictEqual(opened, "EADDRINUSE")
})
