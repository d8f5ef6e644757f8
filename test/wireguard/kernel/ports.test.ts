/** Ports of the kernel device, with loopback addresses in place of tunnels: no root. */
import type { PeerConfig } from "#wireguard/Device.ts"
import { KernelPorts } from "#wireguard/kernel/KernelPorts.ts"
import { assert, it } from "@effect/vitest"
import { createSocket } from "node:dgram"
import { once } from "node:events"
import { connect, createServer, type Socket } from "node:net"

const localAddress = "127.80.0.1"
const peerAddress = "127.80.0.2"
const strangerAddress = "127.80.0.3"

const peer = (changes: Partial<PeerConfig> = {}): PeerConfig => ({
  publicKey: "key1",
  address: peerAddress,
  localAddress,
  endpoint: undefined,
  keepaliveSeconds: 0,
  ...changes
})

const withPorts = async (test: (ports: KernelPorts) => Promise<void>) => {
  const ports = new KernelPorts()
  try {
    await test(ports)
  } finally {
    ports.close()
  }
}

const dial = (port: number, from: string, to = localAddress) => connect({ host: to, port, localAddress: from })

const outcome = (socket: Socket): Promise<string> =>
  new Promise((resolve) => {
    socket.once("data", (data) => resolve(String(data))).once("end", () => resolve("end"))
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  })

it("a listener accepts peers and resets strangers, and the port opens with the first peer", () =>
  withPorts(async (ports) => {
    await ports.listen(21_100, (incoming) => void incoming.accept().end(`hello ${incoming.remoteAddress}`))
    assert.strictEqual(await outcome(dial(21_100, peerAddress)), "ECONNREFUSED")
    await ports.setPeers([peer()])
    assert.strictEqual(await outcome(dial(21_100, peerAddress)), `hello ${peerAddress}`)
    assert.strictEqual(await outcome(dial(21_100, strangerAddress)), "ECONNRESET")
    assert.strictEqual(await outcome(dial(21_100, peerAddress, "127.0.0.1")), "ECONNREFUSED")
    await ports.setPeers([])
    assert.strictEqual(await outcome(dial(21_100, peerAddress)), "ECONNREFUSED")
  }))

it("bytes that arrive before the connection is accepted are not lost", () =>
  withPorts(async (ports) => {
    await ports.setPeers([peer()])
    const received = Promise.withResolvers<string>()
    await ports.listen(21_101, (incoming) => {
      setImmediate(() => {
        const socket = incoming.accept()
        setImmediate(() => socket.once("data", (data: Buffer) => received.resolve(String(data))))
      })
    })
    const socket = dial(21_101, peerAddress)
    socket.write("early")
    assert.strictEqual(await received.promise, "early")
    socket.destroy()
  }))

it("connections end with their peer or the device, and stay when another peer changes", () =>
  withPorts(async (ports) => {
    const other = peer({ publicKey: "key2", address: strangerAddress })
    await ports.setPeers([peer(), other])
    await ports.listen(21_102, (incoming) => void incoming.accept().write("x"))
    const [first, second] = [dial(21_102, peerAddress), dial(21_102, strangerAddress)]
    assert.deepStrictEqual(await Promise.all([outcome(first), outcome(second)]), ["x", "x"])
    const ended = outcome(first)
    await ports.setPeers([peer({ publicKey: "key3" }), other])
    assert.strictEqual(await ended, "ECONNRESET")
    assert.isFalse(second.destroyed)
    const closed = outcome(second)
    ports.close()
    assert.strictEqual(await closed, "ECONNRESET")
  }))

it("a port in use is named, and opens with a later change of the peers", () =>
  withPorts(async (ports) => {
    const blocker = createServer().listen(21_103, "0.0.0.0")
    await once(blocker, "listening")
    await ports.listen(21_103, (incoming) => void incoming.accept().end("x"))
    const problem = await ports.setPeers([peer()]).then(() => "", (error: Error) => error.message)
    assert.match(problem, /^TCP port 21103 is in use by another program at 127\.80\.0\.1; stop it/u)
    await ports.listen(21_104, (incoming) => void incoming.accept().end("y"))
    assert.strictEqual(await outcome(dial(21_104, peerAddress)), "y", "another port is not concerned")
    blocker.close()
    await once(blocker, "close")
    await ports.setPeers([peer()])
    assert.strictEqual(await outcome(dial(21_103, peerAddress)), "x")
  }))

it("a UDP port that was bound before the first peer receives from peers only, and answers them", () =>
  withPorts(async (ports) => {
    const received: Array<string> = []
    const udp = await ports.bindUdp(21_105, (payload, from) => {
      received.push(`${payload} ${from.address}`)
      udp.send(Buffer.from("answer"), from)
    }, () => {})
    await ports.setPeers([peer()])
    const [stranger, visitor] = [
      createSocket("udp4").bind(0, strangerAddress),
      createSocket("udp4").bind(0, peerAddress)
    ]
    await Promise.all([once(stranger, "listening"), once(visitor, "listening")])
    // The loopback interface keeps the order of datagrams.
    await new Promise((sent) => stranger.send("forged", 21_105, localAddress, sent))
    visitor.send("question", 21_105, localAddress)
    const [answer, from] = await once(visitor, "message")
    assert.deepStrictEqual([String(answer), from.address, received], ["answer", localAddress, [
      `question ${peerAddress}`
    ]])
    assert.deepStrictEqual(ports.udp, [21_105])
    udp.close()
    assert.deepStrictEqual(ports.udp, [])
    stranger.close()
    visitor.close()
  }))

it("a free UDP port of a gateway needs no rule, and sends to peers only", () =>
  withPorts(async (ports) => {
    await ports.setPeers([peer()])
    const answered = Promise.withResolvers<string>()
    const udp = await ports.bindUdp(0, (payload) => answered.resolve(String(payload)), () => {})
    assert.isAbove(udp.port, 0)
    assert.deepStrictEqual(ports.udp, [])
    const [stranger, service] = [
      createSocket("udp4").bind(0, strangerAddress),
      createSocket("udp4").bind(0, peerAddress)
    ]
    await Promise.all([once(stranger, "listening"), once(service, "listening")])
    stranger.once("message", () => answered.resolve("a stranger has received a datagram"))
    service.once("message", (payload, { address, port }) => service.send(payload, port, address))
    udp.send(Buffer.from("x"), { address: strangerAddress, port: stranger.address().port })
    udp.send(Buffer.from("y"), { address: peerAddress, port: service.address().port })
    assert.strictEqual(await answered.promise, "y")
    udp.close()
    stranger.close()
    service.close()
  }))
