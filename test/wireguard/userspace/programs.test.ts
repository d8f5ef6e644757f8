/** HTTP, UDP and changes of the peers over userspace devices. */
import { assert, it } from "@effect/vitest"
import { once } from "node:events"
import { Agent, createServer, request } from "node:http"
import { connect, createServer as createTcpServer } from "node:net"
import { text } from "node:stream/consumers"
import { systemClock } from "#processes/clock.ts"
import { openUserspaceDevice } from "#wireguard/userspace/UserspaceDevice.ts"
import { DevicePair, digest, failure, halfOpen, keyPair, leftAddress, rightAddress } from "./DevicePair.ts"

it("an http.Agent keeps one connection for many requests, with node:http at both ends", async () => {
  await using pair = await DevicePair.open()
  const server = createServer((incoming, response) => {
    incoming.resume()
    response.end(`answer to ${incoming.url}`)
  })
  let connections = 0
  await pair.right.listen(20_000, (incoming) => {
    connections += 1
    server.emit("connection", incoming.accept())
  })
  const agent = new Agent({ keepAlive: true, maxSockets: 1, timeout: 5_000 })
  agent.createConnection = () => pair.dial(20_000)
  for (let count = 0; count < 20; count += 1) {
    const outgoing = request({ agent, path: `/${count}`, method: "POST", timeout: 3_000 })
    outgoing.end("body")
    const [response] = await once(outgoing, "response")
    assert.strictEqual(await text(response), `answer to /${count}`)
  }
  assert.strictEqual(connections, 1)
  agent.destroy()
  server.close()
})

it("a TCP service behind the tunnel gets 100 parallel connections", async () => {
  await using pair = await DevicePair.open()
  await pair.serveEcho(20_001)
  const answers = await Promise.all(Array.from({ length: 100 }, (_, number) => {
    const socket = pair.dial(20_001)
    const content = Buffer.alloc(20_000, number)
    socket.end(content)
    return text(socket).then((received) => received === content.toString())
  }))
  assert.isTrue(answers.every(Boolean))
})

it("a TCP connection of the system and one of the tunnel can be piped into each other", async () => {
  await using pair = await DevicePair.open()
  const service = createTcpServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(0, "127.0.0.1")
  await once(service, "listening")
  const { port } = service.address() as { port: number }
  await pair.right.listen(20_002, (incoming) => {
    const socket = halfOpen(incoming.accept())
    const target = connect({ port, host: "127.0.0.1", allowHalfOpen: true })
    socket.pipe(target)
    target.pipe(socket)
  })
  const socket = pair.dial(20_002)
  const received = digest(socket)
  socket.end(Buffer.alloc(500_000, 5))
  const expected = digest(new Blob([Buffer.alloc(500_000, 5)]).stream() as never)
  assert.strictEqual(await received, await expected)
  service.close()
})

it("UDP datagrams reach a bound port and their answers come back; a closed port and a large payload give none", async () => {
  await using pair = await DevicePair.open()
  const echo = await pair.right.bindUdp(20_003, (payload, from) => echo.send(payload, from))
  const answers: Array<string> = []
  let answered = () => {}
  const client = await pair.left.bindUdp(0, (payload, { address, port }) => {
    answers.push(`${payload.toString()} from ${address}:${port}`)
    answered()
  })
  const next = () => new Promise<void>((resolve) => void (answered = resolve))
  for (const content of ["first", "second"]) {
    const arrived = next()
    client.send(Buffer.from(content), { address: rightAddress, port: 20_003 })
    await arrived
  }
  client.send(Buffer.alloc(1_260), { address: rightAddress, port: 20_003 })
  client.send(Buffer.from("no peer"), { address: "10.64.0.9", port: 20_003 })
  const last = next()
  client.send(Buffer.alloc(1_252, "x"), { address: rightAddress, port: 20_003 })
  await last
  assert.deepStrictEqual(answers.map((answer) => answer.replace(/x+/u, "x")), [
    `first from ${rightAddress}:20003`,
    `second from ${rightAddress}:20003`,
    `x from ${rightAddress}:20003`
  ])
  echo.close()
  const again = await pair.right.bindUdp(20_003, () => {})
  await pair.right.bindUdp(20_003, () => {}).then(
    () => assert.fail("a port was bound twice"),
    (error: Error) => assert.match(error.message, /20003 is in use/u)
  )
  again.close()
  client.close()
})

it("configure that adds, changes and removes other peers keeps a connection, and ends those of the removed peer", async () => {
  await using pair = await DevicePair.open()
  const third = keyPair()
  const other = await openUserspaceDevice({
    privateKey: third.privateKey,
    listenPort: 0,
    mtu: 1_280,
    clock: systemClock
  })
  const address = "10.64.0.3"
  const asPeer = {
    publicKey: third.publicKey,
    address,
    localAddress: leftAddress,
    endpoint: { host: "127.0.0.1", port: other.listenPort },
    keepaliveSeconds: 0
  }
  await other.configure([{ ...pair.leftPeer, localAddress: address }])
  await pair.serveEcho(20_004)
  await other.listen(20_004, (incoming) => void incoming.accept().on("error", () => {}).resume())
  const kept = pair.dial(20_004)
  const echoed = async (content: string) => {
    kept.write(content)
    const [chunk] = await once(kept, "data")
    assert.strictEqual(String(chunk), content)
  }
  await echoed("before")
  await pair.left.configure([pair.rightPeer, asPeer])
  await echoed("with a second peer")
  const ended = pair.dial(20_004, address)
  await once(ended, "connect")
  await pair.left.configure([{ ...pair.rightPeer, keepaliveSeconds: 25 }, { ...asPeer, keepaliveSeconds: 25 }])
  await echoed("with other options")
  assert.isFalse(ended.destroyed)
  const failed = failure(ended)
  await pair.left.configure([pair.rightPeer])
  assert.strictEqual(await failed, "EHOSTUNREACH")
  await echoed("after the removal")
  const renewed = failure(kept)
  await pair.left.configure([{ ...pair.rightPeer, publicKey: third.publicKey }])
  assert.strictEqual(await renewed, "EHOSTUNREACH")
  await other.close()
})
