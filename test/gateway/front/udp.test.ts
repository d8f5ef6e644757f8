/** Public UDP ports: echo for several visitors, sessions and their bounds, addresses of replies. */
import { localAddresses, udpAddresses } from "#gateway/front/localAddresses.ts"
import type { Route } from "#gateway/Route.ts"
import { assert, describe, it } from "@effect/vitest"
import { createSocket, type RemoteInfo, type Socket, type SocketType } from "node:dgram"
import { once } from "node:events"
import { onTestFinished } from "vitest"
import { type FrontChanges, loopbackUdp, route, startFront, until } from "./frontKit.ts"

const openSocket = async (address: string, port = 0): Promise<Socket> => {
  const type: SocketType = address.includes(":") ? "udp6" : "udp4"
  const socket = createSocket(type)
  onTestFinished(() => {
    try {
      socket.close()
    } catch {
      // The test has closed the socket.
    }
  })
  socket.bind(port, address)
  await once(socket, "listening")
  return socket
}

/** A UDP port that is free at this moment. */
const freeUdpPort = async (): Promise<number> => {
  const socket = await openSocket("127.0.0.1")
  const { port } = socket.address()
  socket.close()
  return port
}

interface Received {
  readonly text: string
  readonly from: string
  readonly port: number
}

const receive = async (socket: Socket): Promise<Received> => {
  const [datagram, from] = await once(socket, "message") as [Buffer, RemoteInfo]
  return { text: String(datagram), from: from.address, port: from.port }
}

/** Sends a datagram and waits for the answer. */
const ask = (visitor: Socket, text: string, port: number, address = "127.0.0.1"): Promise<Received> => {
  visitor.send(text, port, address)
  return receive(visitor)
}

/** Sends a datagram in each turn of the event loop until an answer comes, because sockets are being replaced. */
const askUntilAnswered = async (visitor: Socket, text: string, port: number, address: string): Promise<Received> => {
  const answer = receive(visitor)
  let isAnswered = false
  void answer.then(() => (isAnswered = true))
  await until(() => {
    if (!isAnswered) visitor.send(text, port, address)
    return isAnswered
  })
  return answer
}

/** A service that answers each datagram with its text and remembers the ports that it came from. */
const startEcho = async () => {
  const socket = await openSocket("127.0.0.1")
  const ports = new Set<number>()
  socket.on("message", (datagram, from) => {
    ports.add(from.port)
    socket.send(datagram, from.port, from.address)
  })
  return { port: socket.address().port, ports, socket }
}

/** UDP through the tunnel that counts its open ports. */
const countedUdp = () => {
  let open = 0
  const udp: typeof loopbackUdp = {
    bindUdp: async (port, onDatagram) => {
      const socket = await loopbackUdp.bindUdp(port, onDatagram)
      open += 1
      return {
        ...socket,
        close: () => {
          open -= 1
          socket.close()
        }
      }
    }
  }
  return { udp, openPorts: () => open }
}

const startUdp = async (options: FrontChanges = {}, changes: Partial<Route> = {}) => {
  const service = await startEcho()
  const tunnel = route({ protocol: "udp", listenPort: await freeUdpPort(), port: service.port, ...changes })
  const front = await startFront(options)
  assert.deepStrictEqual(await front.listeners.setPortRoutes([tunnel]), new Map())
  return { ...front, service, tunnel, port: tunnel.listenPort ?? 0 }
}

describe("udp tunnel", () => {
  it("each visitor has its own port toward the service and gets its own answers", async () => {
    const { listeners, port, service, tunnel } = await startUdp()
    const visitors = await Promise.all(["127.0.0.1", "127.0.0.1", "127.0.0.2"].map((address) => openSocket(address)))
    for (const round of ["a", "b"]) {
      const answers = await Promise.all(visitors.map((visitor, index) => ask(visitor, `${round}${index}`, port)))
      assert.deepStrictEqual(
        answers,
        visitors.map((_, index) => ({ text: `${round}${index}`, from: "127.0.0.1", port }))
      )
    }
    assert.strictEqual(service.ports.size, 3)
    assert.strictEqual(listeners.counts.udpSessions, 3)
    assert.deepStrictEqual(tunnel.outcomes, ["ok", "ok", "ok"])
    assert.deepInclude(listeners.counts.udp, { fromVisitors: 6, toVisitors: 6 })
  })

  it("datagrams that arrive before the port toward the service is open are delivered in order", async () => {
    const { port, service } = await startUdp()
    const visitor = await openSocket("127.0.0.1")
    const received: Array<string> = []
    visitor.on("message", (datagram) => received.push(String(datagram)))
    for (const text of ["1", "2", "3", "4"]) visitor.send(text, port, "127.0.0.1")
    await until(() => received.length === 4)
    assert.deepStrictEqual(received, ["1", "2", "3", "4"])
    assert.strictEqual(service.ports.size, 1)
  })

  it("a visitor over IPv6 is served", async () => {
    const { port } = await startUdp({ bind: ["127.0.0.1", "::1"] })
    assert.deepStrictEqual(await ask(await openSocket("::1"), "six", port, "::1"), { text: "six", from: "::1", port })
  })

  it("a session ends after 60 s without a datagram, and each direction keeps it open", async () => {
    const { openPorts, udp } = countedUdp()
    const { clock, listeners, port, service } = await startUdp({ udp })
    const [active, silent, listening] = await Promise.all([1, 2, 3].map(() => openSocket("127.0.0.1")))
    for (const visitor of [active, silent, listening]) await ask(visitor as Socket, "x", port)
    const [, , listeningPort = 0] = service.ports
    clock.advance(40_000)
    await ask(active as Socket, "x", port)
    service.socket.send("news", listeningPort, "127.0.0.1")
    await receive(listening as Socket)
    clock.advance(21_000)
    assert.strictEqual(listeners.counts.udpSessions, 2)
    assert.strictEqual(listeners.counts.udp.expired, 1)
    clock.advance(40_000)
    assert.strictEqual(listeners.counts.udpSessions, 0)
    assert.strictEqual(openPorts(), 0)
    assert.strictEqual(clock.timers, 1, "only the timer of addresses is left")
    await ask(silent as Socket, "again", port)
    assert.strictEqual(service.ports.size, 4)
  })

  it("datagrams of another port than the service's do not reach the visitor", async () => {
    const { listeners, port, service } = await startUdp()
    const visitor = await openSocket("127.0.0.1")
    await ask(visitor, "x", port)
    const [sessionPort = 0] = service.ports
    const foreign = await openSocket("127.0.0.1")
    foreign.send("forged", sessionPort, "127.0.0.1")
    await until(() => listeners.counts.udp.foreign === 1)
    assert.strictEqual((await ask(visitor, "y", port)).text, "y")
  })

  it("a datagram that does not fit into one packet of the tunnel is dropped and counted", async () => {
    const { listeners, port } = await startUdp()
    const visitor = await openSocket("127.0.0.1")
    assert.strictEqual((await ask(visitor, "x".repeat(1_252), port)).text.length, 1_252)
    visitor.send("x".repeat(1_253), port, "127.0.0.1")
    await until(() => listeners.counts.udp.tooLarge === 1)
    listeners.setTunnelMtu(1_420)
    assert.strictEqual((await ask(visitor, "x".repeat(1_392), port)).text.length, 1_392)
  })

  it("a tunnel with another service gets new sessions, and a tunnel with the same one keeps them", async () => {
    const { listeners, port, service, tunnel } = await startUdp()
    const visitor = await openSocket("127.0.0.1")
    await ask(visitor, "x", port)
    await listeners.setPortRoutes([{ ...tunnel, proxyProtocol: "v1" }])
    await ask(visitor, "y", port)
    assert.strictEqual(service.ports.size, 1)
    const other = await startEcho()
    await listeners.setPortRoutes([{ ...tunnel, port: other.port }])
    assert.strictEqual(listeners.counts.udpSessions, 0)
    await ask(visitor, "z", port)
    assert.strictEqual(other.ports.size, 1)
    await listeners.setPortRoutes([])
    assert.strictEqual(listeners.counts.udpSessions, 0)
  })

  it("a UDP port in use is reported and opens after it has become free", async () => {
    const other = await openSocket("127.0.0.1")
    const listenPort = other.address().port
    const { clock, listeners, portProblems } = await startFront()
    const service = await startEcho()
    const problems = await listeners.setPortRoutes([route({ protocol: "udp", listenPort, port: service.port })])
    assert.deepStrictEqual(
      problems,
      new Map([["t1", `cannot listen on 127.0.0.1:${listenPort}: another program uses the port`]])
    )
    other.close()
    clock.advance(5_000)
    await until(() => portProblems.length === 1)
    assert.deepStrictEqual(portProblems, [new Map()])
    assert.strictEqual((await ask(await openSocket("127.0.0.1"), "x", listenPort)).text, "x")
  })

  it("a visitor whose port toward the service cannot be opened is dropped, and the operator is informed", async () => {
    const udp = { bindUdp: () => Promise.reject(new Error("no free port")) }
    const { listeners, port, problems } = await startUdp({ udp })
    const visitor = await openSocket("127.0.0.1")
    visitor.send("x", port, "127.0.0.1")
    await until(() => listeners.counts.udp.dropped === 1)
    assert.strictEqual(listeners.counts.udpSessions, 0)
    assert.match(problems[0] ?? "", /cannot open a UDP port toward tunnel t1: .*no free port/u)
  })
})

describe("bounds of udp sessions", () => {
  const visitors = (count: number, address = "127.0.0.1") =>
    Promise.all(Array.from({ length: count }, () => openSocket(address)))

  it("a visitor with too many sessions loses its oldest idle one, and other visitors lose nothing", async () => {
    const { clock, listeners, port, service } = await startUdp({ limits: { maxUdpSessionsPerVisitor: 2 } })
    const [first, second, third] = await visitors(3) as [Socket, Socket, Socket]
    const [other] = await visitors(1, "127.0.0.2") as [Socket]
    for (const visitor of [other, first, second]) {
      for (const text of ["question", "confirmation"]) await ask(visitor, text, port)
      clock.advance(1_000)
    }
    // The second session of the visitor is idle for longer than the first one now.
    await ask(first, "x", port)
    await ask(third, "x", port)
    assert.strictEqual(listeners.counts.udp.evicted, 1)
    const before = service.ports.size
    for (const visitor of [first, third, other]) await ask(visitor, "x", port)
    assert.strictEqual(service.ports.size, before, "these three sessions have kept their ports")
  })

  it.each(["maxUdpSessions", "maxUdpSessionsPerTunnel"] as const)(
    "forged addresses above %s do not end sessions of visitors that have sent after an answer",
    async (limit) => {
      const { listeners, port, service } = await startUdp({ limits: { [limit]: 4, maxUdpSessionsPerVisitor: 100 } })
      const [visitor] = await visitors(1) as [Socket]
      for (const text of ["question", "confirmation"]) await ask(visitor, text, port)
      const [sessionPort] = service.ports
      for (const forged of await visitors(20, "127.0.0.3")) forged.send("flood", port, "127.0.0.1")
      await until(() => listeners.counts.udp.evicted === 17)
      assert.strictEqual(listeners.counts.udpSessions, 4)
      service.ports.clear()
      await ask(visitor, "still here", port)
      assert.isTrue(service.ports.has(sessionPort ?? 0))
      assert.strictEqual(listeners.counts.udp.evicted, 17)
    }
  )

  it("visitors of one /64 of IPv6 count as one", async () => {
    const { listeners, port } = await startUdp({ bind: ["::1"], limits: { maxUdpSessionsPerVisitor: 2 } })
    for (const visitor of await visitors(3, "::1")) await ask(visitor, "x", port, "::1")
    assert.strictEqual(listeners.counts.udpSessions, 2)
  })
})

describe("addresses of replies", () => {
  it("a machine with several addresses answers from the one that the visitor used, also when addresses change", async () => {
    let local = ["127.0.0.1", "::1"]
    const { clock, port, service } = await startUdp({ bind: ["0.0.0.0"], localAddresses: () => local })
    const visitor = await openSocket("127.0.0.1")
    assert.strictEqual((await ask(visitor, "x", port)).from, "127.0.0.1")
    // The kernel itself would answer from 127.0.0.1. Tests have no other addresses than loopback ones.
    local = ["127.0.0.1", "127.0.0.9", "192.0.2.1", "192.0.2.2"]
    clock.advance(5_000)
    const second = await openSocket("127.0.0.1")
    assert.strictEqual((await askUntilAnswered(second, "y", port, "127.0.0.9")).from, "127.0.0.9")
    const [sessionPort = 0] = service.ports
    service.socket.send("to the first visitor", sessionPort, "127.0.0.1")
    assert.deepStrictEqual(await receive(visitor), { text: "to the first visitor", from: "127.0.0.1", port })
    assert.strictEqual((await ask(visitor, "z", port, "127.0.0.9")).from, "127.0.0.9")
  })

  it("a machine with one address has one socket, and a machine with several has one for each", () => {
    const bind = ["0.0.0.0", "::"]
    assert.deepStrictEqual(udpAddresses(bind, ["127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"]), bind)
    assert.deepStrictEqual(udpAddresses(bind, ["127.0.0.1", "192.0.2.1", "192.0.2.2", "::1"]), [
      "127.0.0.1",
      "192.0.2.1",
      "192.0.2.2",
      "::"
    ])
    assert.deepStrictEqual(udpAddresses(["192.0.2.1"], ["192.0.2.1", "192.0.2.2"]), ["192.0.2.1"])
    const many = Array.from({ length: 20 }, (_, index) => `192.0.2.${index}`)
    assert.deepStrictEqual(udpAddresses(bind, many), bind)
    assert.includeMembers([...localAddresses()], ["127.0.0.1"])
  })
})
